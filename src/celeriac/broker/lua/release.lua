#!lua flags=allow-oom
-- A worker hands messages back. ARGV: consumer, '1' when a delivery is charged, reason, then leases as
-- pairs of stream letter and entry id. Returns how many went back, and how many of these are dead now.
local now, back, dead = now_ms(), 0, 0
for at = 4, #ARGV, 2 do
  local v = take(STREAM[ARGV[at]], ARGV[at + 1], now)
  if v then
    if put_back(v, ARGV[2] == '1', ARGV[3], ARGV[1], now) then dead = dead + 1 end
    back = back + 1
  end
end
return {back, dead}
