-- ARGV  6 id, 7 emitted tokens, 8 scored tokens
-- Reply  {'settled'}

local id = ARGV[6]
if lease_of(id) then
  book(id, tonumber(ARGV[7]))
  books.day_scored = books.day_scored + tonumber(ARGV[8])
  remove(id)
  save()
end
return {'settled'}
