-- KEYS  1 identity, 2 findings by id, 3 reviews by id
-- ARGV  1 identity, 2 id, 3 review
-- Reply  {'reviewed'} or {'unknown'}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
if not redis.call('HMGET', KEYS[2], ARGV[2])[1] then
  return {'unknown'}
end
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
return {'reviewed'}
