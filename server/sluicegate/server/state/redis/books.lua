-- One account's books: the rules of state/books.py. A ledger script is this text and then its own.
--
-- Only the leases that a script names, and those that have lapsed, are read: what all of them hold is kept in sums, so a
-- call costs the same however many run.
--
-- KEYS  1 identity, 2 the account's counters, 3 its leases by id, 4 their ids by the time in ms at which they lapse
-- ARGV  1 identity, 2 the time in ms or '' for the server's own, 3 and 4 start and end of the account's day,
--       5 lease time in ms; the script's own from 6 on
-- A lease is "expires_ms output scored emitted".

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {'lost'}
end

local FIELDS = {
  'time', 'minute_end', 'requests', 'minute_output', 'day_end', 'day_output', 'day_scored', 'held_output', 'held_scored'
}
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

local function parsed(text)
  local expires, output, scored, emitted = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  return {
    expires = tonumber(expires), output = tonumber(output), scored = tonumber(scored), emitted = tonumber(emitted)
  }
end

local count = redis.call('ZCARD', KEYS[4])
if count == 0 then  -- nothing is held, or a release wrote it that kept no sums
  books.held_output, books.held_scored = 0, 0
  local flat = redis.call('HGETALL', KEYS[3])
  for i = 1, #flat, 2 do
    local lease = parsed(flat[i + 1])
    redis.call('ZADD', KEYS[4], lease.expires, flat[i])
    books.held_output, books.held_scored = books.held_output + lease.output, books.held_scored + lease.scored
  end
  count = #flat / 2
  if count > 0 then
    redis.call('HSET', KEYS[2], 'held_output', books.held_output, 'held_scored', books.held_scored)
    redis.call('PEXPIRE', KEYS[4], day_end - now + lease_ms + KEPT)
  end
end

local leases, changed = {}, {}

-- A lease, to be read or changed; nil if there is none.
local function lease_of(id)
  if not leases[id] and not changed[id] then
    local text = redis.call('HMGET', KEYS[3], id)[1]
    leases[id] = text and parsed(text) or nil
  end
  return leases[id]
end

local function add(id, lease)
  leases[id], changed[id], count = lease, true, count + 1
  books.held_output, books.held_scored = books.held_output + lease.output, books.held_scored + lease.scored
end

local function remove(id)
  local lease = lease_of(id) or {output = 0, scored = 0}
  leases[id], changed[id], count = nil, true, count - 1
  books.held_output, books.held_scored = books.held_output - lease.output, books.held_scored - lease.scored
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
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
  local lease = lease_of(id)
  if lease and lease.expires >= minute_start then
    books.minute_output = books.minute_output + lease.output
  end
  if lease and lease.expires >= day_start then
    books.day_output = books.day_output + lease.output
    books.day_scored = books.day_scored + lease.scored
  end
  remove(id)
end

local function book(id, emitted)
  local lease = lease_of(id)
  local new = math.max(0, emitted - lease.emitted)
  local less = math.min(lease.output, new)
  books.minute_output, books.day_output = books.minute_output + new, books.day_output + new
  books.held_output = books.held_output - less
  lease.output, lease.emitted = lease.output - less, lease.emitted + new
  changed[id] = true
end

-- What is used of each quota, in the order of Quota.
local function usage()
  local output, scored = books.held_output, books.held_scored
  return {count, books.requests, books.minute_output + output, books.day_output + output, books.day_scored + scored}
end

local function whole(number)
  return string.format('%.0f', number)
end

local function save()
  local counters = {}
  for _, field in ipairs(FIELDS) do
    table.insert(counters, field)
    table.insert(counters, whole(books[field]))
  end
  redis.call('HSET', KEYS[2], unpack(counters))
  for id in pairs(changed) do
    local lease = leases[id]
    if lease then
      local text = {whole(lease.expires), whole(lease.output), whole(lease.scored), whole(lease.emitted)}
      redis.call('HSET', KEYS[3], id, table.concat(text, ' '))
      redis.call('ZADD', KEYS[4], whole(lease.expires), id)
    else
      redis.call('HDEL', KEYS[3], id)
      redis.call('ZREM', KEYS[4], id)
    end
  end
  for key = 2, 4 do
    redis.call('PEXPIRE', KEYS[key], whole(day_end - now + lease_ms + KEPT))
  end
end
