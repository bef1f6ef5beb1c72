#!lua
-- Writes the queue's record. ARGV: field, value, ... ; the field `policy` decides whether it changed.
-- Returns the record's version.
local fresh = {}
for at = 1, #ARGV, 2 do fresh[ARGV[at]] = ARGV[at + 1] end
for _, letter in ipairs(LETTERS) do
  local made = redis.pcall('XGROUP', 'CREATE', STREAM[letter], GROUP, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
end
if redis.call('HGET', RECORD, 'policy') ~= fresh.policy then
  redis.call('HSET', RECORD, unpack(ARGV))
  redis.call('HINCRBY', RECORD, 'version', 1)
  wake()
end
return tonumber(redis.call('HGET', RECORD, 'version'))
