-- KEYS  1 identity, 2 findings by id, 3 ids by request; from 4 on the lists that the finding goes into, those with a
--       bound first
-- ARGV  1 identity, 2 id, 3 finding, 4 key of the request or '', 5 what sorts before all ids that bounds count; from 6
--       on the bounds of the first lists
-- Reply  {'filed', id of the finding that this request made} or {'crowded', number of the bound from 1, id in its way}

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
if redis.call('HMGET', KEYS[2], ARGV[2])[1] then
  return {'filed', ARGV[2]}  -- the caller lost our reply and asks again
end
if ARGV[4] ~= '' then
  local earlier = redis.call('HMGET', KEYS[3], ARGV[4])[1]
  if earlier then
    return {'filed', earlier}
  end
end
for i = 6, #ARGV do
  local offset = tonumber(ARGV[i]) - 1
  local found = redis.call('ZREVRANGEBYLEX', KEYS[i - 2], '+', '(' .. ARGV[5], 'LIMIT', offset, 1)
  if found[1] then
    return {'crowded', i - 5, found[1]}
  end
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
for i = 4, #KEYS do
  redis.call('ZADD', KEYS[i], 0, ARGV[2])
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[4], ARGV[2])
end
return {'filed', ARGV[2]}
