-- KEYS  1 identity, 2 findings by id, 3 reviews by id, 4 list
-- ARGV  1 identity, 2 id before which to read or '', 3 how many at most
-- Reply  {'list', finding, review or '', finding, review or ''…}, the newest first

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local first = ARGV[2] == '' and '+' or '(' .. ARGV[2]
local reply = {'list'}
for _, id in ipairs(redis.call('ZREVRANGEBYLEX', KEYS[4], first, '-', 'LIMIT', 0, tonumber(ARGV[3]))) do
  table.insert(reply, redis.call('HMGET', KEYS[2], id)[1])
  table.insert(reply, redis.call('HMGET', KEYS[3], id)[1] or '')
end
return reply
