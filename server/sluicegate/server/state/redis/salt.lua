-- KEYS  1 identity, 2 salt and sequence
-- ARGV  1 identity, 2 the salt to keep where there is none
-- Reply  {'salt', salt}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local salt = redis.call('HMGET', KEYS[2], 'salt')[1]
if not salt then
  salt = ARGV[2]
  redis.call('HSET', KEYS[2], 'salt', salt)
end
return {'salt', salt}
