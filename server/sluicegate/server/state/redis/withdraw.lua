-- KEYS  1 identity, 2 history: marks, the first of epoch 1; 3 entries by id, 4 ids by the time at which they expire
-- ARGV  1 identity, 2 time in seconds or '', 3 id, 4 entry, 5 when it expires in seconds or ''
-- Reply  {'epoch', epoch}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local position = redis.call('LPOS', KEYS[2], ARGV[3])
if position then
  return {'epoch', position + 1}  -- the caller lost our reply and asks again
end
local now = tonumber(ARGV[2]) or tonumber(redis.call('TIME')[1])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  redis.call('HDEL', KEYS[3], id)
  redis.call('ZREM', KEYS[4], id)
end
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[3])
end
return {'epoch', redis.call('RPUSH', KEYS[2], ARGV[3])}
