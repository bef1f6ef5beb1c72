#!lua flags=allow-oom
-- Writes the queue's record. ARGV: field, value, ... Returns the record's version, which grows when any
-- field changed: a newer release may derive other fields from the same policy.
for _, letter in ipairs(LETTERS) do
  local made = redis.pcall('XGROUP', 'CREATE', STREAM[letter], GROUP, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
end
local changed = false
for at = 1, #ARGV, 2 do
  changed = changed or redis.call('HGET', RECORD, ARGV[at]) ~= ARGV[at + 1]
end
if changed then
  redis.call('HSET', RECORD, unpack(ARGV))
  redis.call('HINCRBY', RECORD, 'version', 1)
  wake()
end
return tonumber(redis.call('HGET', RECORD, 'version'))
