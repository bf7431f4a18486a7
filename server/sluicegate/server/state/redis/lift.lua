-- KEYS  as in withdraw.lua
-- ARGV  1 identity, 2 id, 3 the change's mark
-- Reply  {'epoch', epoch} or {'unknown'}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local position = redis.call('LPOS', KEYS[2], ARGV[3])
if position then
  return {'epoch', position + 1}  -- the caller lost our reply and asks again
end
if redis.call('HDEL', KEYS[3], ARGV[2]) == 0 then
  return {'unknown'}
end
redis.call('ZREM', KEYS[4], ARGV[2])
return {'epoch', redis.call('RPUSH', KEYS[2], ARGV[3])}
