-- KEYS  as in put_sketches.lua
-- ARGV  1 identity, 2 source that asks, 3 number after which it asks, 4 the largest sketch and 5 page in characters
-- Reply  {'sketches', number of the last one looked at, field, sketch, field, sketch…}
--
-- What nobody of ours can have put is left out: text that is no base64 would make the client fail on the whole reply.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end
local after = tonumber(ARGV[3])
if after > tonumber(redis.call('HMGET', KEYS[2], 'sequence')[1] or 0) then
  after = 0  -- this store is an older copy of the one that was read
end
local reply, size = {'sketches', after}, 0
local found = redis.call('ZRANGEBYSCORE', KEYS[4], string.format('(%.0f', after), '+inf', 'WITHSCORES', 'LIMIT', 0, 256)
for i = 1, #found, 2 do
  local field, looked_at = found[i], reply[2]
  reply[2] = tonumber(found[i + 1])
  if string.sub(field, 1, #ARGV[2] + 1) ~= ARGV[2] .. ' ' and string.find(field, '^[\33-\126]+ [\33-\126]+$') then
    local data = redis.call('HMGET', KEYS[3], field)[1]
    if data and #data <= tonumber(ARGV[4]) and string.find(data, '^[%w+/=]*$') then
      if size > 0 and size + #data > tonumber(ARGV[5]) then
        reply[2] = looked_at
        break
      end
      table.insert(reply, field)
      table.insert(reply, data)
      size = size + #data
    end
  end
end
return reply
