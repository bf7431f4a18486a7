-- Reply  {'usage', time, minute_end, day_end, used of each quota in the order of Quota…}

return {'usage', books.time, books.minute_end, books.day_end, unpack(usage())}
