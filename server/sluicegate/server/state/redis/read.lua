-- KEYS  as in withdraw.lua
-- ARGV  1 identity, 2 epoch and 3 mark that the reader has seen, or '' and ''
-- Reply  {'same'} or {'list', epoch, mark, entries…}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local epoch = redis.call('LLEN', KEYS[2])
local seen = tonumber(ARGV[2])
if seen then
  if seen > 0 and redis.call('LINDEX', KEYS[2], seen - 1) ~= ARGV[3] then
    return {'lost'}
  end
  if seen == epoch then
    return {'same'}
  end
end
local reply = {'list', epoch, redis.call('LINDEX', KEYS[2], -1) or ''}
for _, entry in ipairs(redis.call('HVALS', KEYS[3])) do
  table.insert(reply, entry)
end
return reply
