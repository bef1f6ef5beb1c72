#!lua flags=allow-oom
-- A worker hands messages back. ARGV: consumer, '1' when a delivery is charged, reason, then leases as
-- pairs of stream letter and entry id. Returns how many went back.
local now, back = now_ms(), 0
for at = 4, #ARGV, 2 do
  local v = take(STREAM[ARGV[at]], ARGV[at + 1], now)
  if v then
    put_back(v, ARGV[2] == '1', ARGV[3], ARGV[1], now)
    back = back + 1
  end
end
return back
