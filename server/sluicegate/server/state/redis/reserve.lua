-- ARGV  6 id, 7 output tokens wanted, 8 the least of them, 9 scored tokens, 10 to 14 the limits in the order of Quota,
--       '' where there is none
-- Reply  {'granted', output tokens} or {'refused', number of the quota, used, time, minute_end, day_end}

local id, wanted, least, scored = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local before = lease_of(id)
if before then
  return {'granted', before.output + before.emitted}  -- the caller lost our reply and asks again
end

local used = usage()
local asked = {1, 1, least, least, scored}
local granted = wanted
for quota = 1, 5 do
  local limit = tonumber(ARGV[9 + quota])
  if limit and asked[quota] > 0 then
    if used[quota] + asked[quota] > limit then
      return {'refused', quota, used[quota], books.time, books.minute_end, books.day_end}
    end
    if quota == 3 or quota == 4 then
      granted = math.min(granted, limit - used[quota])
    end
  end
end

books.requests = books.requests + 1
add(id, {expires = now + lease_ms, output = granted, scored = scored, emitted = 0})
save()
return {'granted', granted}
