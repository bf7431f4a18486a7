-- KEYS  1 identity, 2 salt and sequence, 3 sketches by field, 4 fields by number, 5 fields by time of putting
-- ARGV  1 identity, 2 time in seconds or '', 3 for how many seconds sketches are kept, 4 how many are, 5 source;
--       from 6 on, partner and sketch in turn. A field is "source partner"
-- Reply  {'put'}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local now = tonumber(ARGV[2]) or tonumber(redis.call('TIME')[1])

local function forget(fields)
  for _, field in ipairs(fields) do
    redis.call('HDEL', KEYS[3], field)
    redis.call('ZREM', KEYS[4], field)
    redis.call('ZREM', KEYS[5], field)
  end
end

local sequence = tonumber(redis.call('HMGET', KEYS[2], 'sequence')[1] or 0)
for i = 6, #ARGV, 2 do
  local field = ARGV[5] .. ' ' .. ARGV[i]
  sequence = sequence + 1
  redis.call('HSET', KEYS[3], field, ARGV[i + 1])
  redis.call('ZADD', KEYS[4], sequence, field)
  redis.call('ZADD', KEYS[5], now, field)
end
redis.call('HSET', KEYS[2], 'sequence', string.format('%.0f', sequence))

forget(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now - tonumber(ARGV[3])))
local excess = redis.call('ZCARD', KEYS[4]) - tonumber(ARGV[4])
if excess > 0 then
  forget(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', '+inf', 'LIMIT', 0, excess))
end
for i = 3, 5 do
  redis.call('PEXPIRE', KEYS[i], string.format('%.0f', tonumber(ARGV[3]) * 1000))
end
return {'put'}
