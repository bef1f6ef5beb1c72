#!lua flags=allow-oom
-- Writes the queue's record. ARGV: '1' to leave a record that is there as it is, else '0'; field, value, ...
-- Returns the record's version, which grows when any field changed: a newer release may derive other
-- fields from the same policy.
local refusal = beyond_us(redis.call('HGET', RECORD, 'layout'))
if refusal then return refusal end
for _, letter in ipairs(LETTERS) do
  local made = redis.pcall('XGROUP', 'CREATE', STREAM[letter], GROUP, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
end
local changed = false
local kept = ARGV[1] == '1' and redis.call('HEXISTS', RECORD, 'policy') + redis.call('HEXISTS', RECORD, 'order') == 2
for at = 2, kept and 0 or #ARGV, 2 do
  changed = changed or redis.call('HGET', RECORD, ARGV[at]) ~= ARGV[at + 1]
end
if changed then
  redis.call('HSET', RECORD, unpack(ARGV, 2))
  bump_version(now_ms())
  wake()
end
return tonumber(redis.call('HGET', RECORD, 'version')) or 0
