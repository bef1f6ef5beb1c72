#!lua flags=allow-oom
-- Moves dead letters back to their queue with a fresh count of attempts and deliveries; the history
-- stays. ARGV: dead-letter entry ids. Returns how many moved: one that is gone already is skipped.
local refusal = beyond_us(redis.call('HGET', RECORD, 'layout'))
if refusal then return refusal end
check_refuge()
local now, moved = now_ms(), 0
for _, entry_id in ipairs(ARGV) do
  local flat = string.find(entry_id, '^%d+%-%d+$') and read(DEAD, entry_id)
  local reason = flat and table.remove(flat)
  local v = flat and table.remove(flat) == 'r' and values_of(flat)
  -- What is no dead letter of ours stays where it is.
  if v then
    redis.call('XDEL', DEAD, entry_id)
    remember(v, cjson.encode({reason = 'redriven', deadReason = reason, endedMs = now}))
    v[ATTEMPT], v[DELIVERY], v[LOST], v[EXPIRES] = '0', '0', '0', '0'
    -- Whoever sends it back wants it to run, whatever was asked for earlier.
    redis.call('ZREM', CANCELLED, v[ID])
    make_ready(v)
    moved = moved + 1
  end
end
count('redriven', moved)
return moved
