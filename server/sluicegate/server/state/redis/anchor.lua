-- KEYS  1 identity, 2 heads of audit logs by replica
-- ARGV  1 identity, 2 replica, 3 head
-- Reply  {'kept'}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return {'kept'}
