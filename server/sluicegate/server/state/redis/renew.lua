-- ARGV  from 6 on, id and emitted tokens in turn
-- Reply  {'renewed', ids that have lapsed…}

local reply = {'renewed'}
for i = 6, #ARGV, 2 do
  local id = ARGV[i]
  if lease_of(id) then
    book(id, tonumber(ARGV[i + 1]))
    leases[id].expires = now + lease_ms
  else
    table.insert(reply, id)
  end
end
save()
return reply
