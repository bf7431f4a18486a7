-- KEYS  as in anchor.lua
-- ARGV  1 identity
-- Reply  {'list', replica, head, replica, head…}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local reply = {'list'}
for _, value in ipairs(redis.call('HGETALL', KEYS[2])) do
  table.insert(reply, value)
end
return reply
