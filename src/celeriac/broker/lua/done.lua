#!lua flags=allow-oom
-- Settles finished messages of one stream as Done. ARGV: stream letter, entry count, the entry ids,
-- then for each entry its run time in ms.
-- Returns the indexes (from 0) of entries whose lease was no longer held.
local key, total = STREAM[ARGV[1]], tonumber(ARGV[2])
local ids, runs, lost = {}, {}, {}
for n = 1, total do ids[n] = ARGV[2 + n] end
if redis.call('XACK', key, GROUP, unpack(ids)) == total then
  redis.call('XDEL', key, unpack(ids))
  for n = 1, total do runs[n] = tonumber(ARGV[2 + total + n]) end
else
  -- Some lease is gone. A reclaimed message left this stream, so XDEL's answer says which are ours.
  for n = 1, total do
    if redis.call('XDEL', key, ids[n]) == 1 then
      runs[#runs + 1] = tonumber(ARGV[2 + total + n])
    else
      lost[#lost + 1] = n - 1
    end
  end
end
count('done', #runs)
observe('run', runs)
return lost
