-- KEYS  1 identity, 2 heads of audit logs by replica
-- ARGV  1 identity, 2 replica, 3 log, 4 head
-- Reply  {'kept'}, or {'another'} where the replica's head is of another log

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local before = redis.call('HMGET', KEYS[2], ARGV[2])[1]
if before and string.sub(before, 1, #ARGV[3] + 1) ~= ARGV[3] .. ':' then
  return {'another'}
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return {'kept'}
