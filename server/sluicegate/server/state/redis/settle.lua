-- ARGV  6 id, 7 emitted tokens, 8 scored tokens
-- Reply  {'settled'}

local id = ARGV[6]
if leases[id] then
  book(id, tonumber(ARGV[7]))
  books.day_scored = books.day_scored + tonumber(ARGV[8])
  leases[id] = nil
  save()
end
return {'settled'}
