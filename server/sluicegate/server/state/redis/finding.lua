-- KEYS  1 identity, 2 findings by id, 3 reviews by id
-- ARGV  1 identity, 2 id
-- Reply  {'finding', finding, review or ''} or {'unknown'}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local finding = redis.call('HMGET', KEYS[2], ARGV[2])[1]
if not finding then
  return {'unknown'}
end
return {'finding', finding, redis.call('HMGET', KEYS[3], ARGV[2])[1] or ''}
