-- One account's books: the rules of state/books.py. A ledger script is this text and then its own.
--
-- KEYS  1 identity, 2 the account's counters, 3 its leases
-- ARGV  1 identity, 2 the time in ms or '' for the server's own, 3 and 4 start and end of the account's day,
--       5 lease time in ms; the script's own from 6 on
-- A lease is "expires_ms output scored emitted".

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end

local FIELDS = {'time', 'minute_end', 'requests', 'minute_output', 'day_end', 'day_output', 'day_scored'}
local MINUTE, KEPT = 60000, 2 * 86400000

local books = {}
local stored = redis.call('HMGET', KEYS[2], unpack(FIELDS))
for i, field in ipairs(FIELDS) do
  books[field] = tonumber(stored[i] or 0)
end

-- The account's time never goes back.
local clock = redis.call('TIME')
local now = tonumber(ARGV[2]) or clock[1] * 1000 + math.floor(clock[2] / 1000)
now = math.max(now, books.time)
local day_start, day_end, lease_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if now < day_start or now >= day_end then
  return {'other day', now}  -- the caller knows time zones and not the time, the server the other way round
end

local leases, changed = {}, {}
local flat = redis.call('HGETALL', KEYS[3])
for i = 1, #flat, 2 do
  local expires, output, scored, emitted = string.match(flat[i + 1], '^(%d+) (%d+) (%d+) (%d+)$')
  leases[flat[i]] = {
    expires = tonumber(expires), output = tonumber(output), scored = tonumber(scored), emitted = tonumber(emitted)
  }
end

-- Open the windows of this moment.
books.time = now
local minute_start = now - now % MINUTE
if books.minute_end ~= minute_start + MINUTE then
  books.minute_end, books.requests, books.minute_output = minute_start + MINUTE, 0, 0
end
if day_start >= books.day_end then
  books.day_output, books.day_scored = 0, 0
end
books.day_end = day_end

-- Book what has lapsed.
for id, lease in pairs(leases) do
  if lease.expires <= now then
    if lease.expires >= minute_start then
      books.minute_output = books.minute_output + lease.output
    end
    if lease.expires >= day_start then
      books.day_output = books.day_output + lease.output
      books.day_scored = books.day_scored + lease.scored
    end
    leases[id], changed[id] = nil, true
  end
end

local function book(id, emitted)
  local lease = leases[id]
  local new = math.max(0, emitted - lease.emitted)
  books.minute_output = books.minute_output + new
  books.day_output = books.day_output + new
  lease.output = math.max(0, lease.output - new)
  lease.emitted = lease.emitted + new
  changed[id] = true
end

-- What is used of each quota, in the order of Quota.
local function usage()
  local count, output, scored = 0, 0, 0
  for _, lease in pairs(leases) do
    count, output, scored = count + 1, output + lease.output, scored + lease.scored
  end
  return {count, books.requests, books.minute_output + output, books.day_output + output, books.day_scored + scored}
end

local function whole(number)
  return string.format('%.0f', number)
end

local function save()
  for _, field in ipairs(FIELDS) do
    redis.call('HSET', KEYS[2], field, whole(books[field]))
  end
  for id in pairs(changed) do
    local lease = leases[id]
    if lease then
      local text = {whole(lease.expires), whole(lease.output), whole(lease.scored), whole(lease.emitted)}
      redis.call('HSET', KEYS[3], id, table.concat(text, ' '))
    else
      redis.call('HDEL', KEYS[3], id)
    end
  end
  redis.call('PEXPIRE', KEYS[2], whole(day_end - now + lease_ms + KEPT))
  redis.call('PEXPIRE', KEYS[3], whole(day_end - now + lease_ms + KEPT))
end
