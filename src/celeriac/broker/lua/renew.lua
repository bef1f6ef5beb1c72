#!lua flags=allow-oom
-- Renews leases. ARGV: consumer, then stream letter and entry id pairs; without any, all that the
-- consumer holds. Returns those lost, as letter .. id. XCLAIM without FORCE skips ids that are not
-- pending, and a pending id is ours.
local consumer, lost = ARGV[1], {}
redis.call('ZADD', WORKERS, int(now_ms()), consumer)
local by = {}
for at = 2, #ARGV, 2 do
  by[ARGV[at]] = by[ARGV[at]] or {}
  table.insert(by[ARGV[at]], ARGV[at + 1])
end
if #ARGV == 1 then
  for _, letter in ipairs(LETTERS) do
    by[letter] = {}
    for _, pending in ipairs(redis.call('XPENDING', STREAM[letter], GROUP, '-', '+', 10000, consumer)) do
      table.insert(by[letter], pending[1])
    end
  end
end
for letter, ids in pairs(by) do
  for from = 1, #ids, 1000 do
    local part = {}
    for n = from, math.min(from + 999, #ids) do part[#part + 1] = ids[n] end
    part[#part + 1] = 'JUSTID'
    local kept = {}
    for _, id in ipairs(redis.call('XCLAIM', STREAM[letter], GROUP, consumer, 0, unpack(part))) do kept[id] = true end
    for n = 1, #part - 1 do
      if not kept[part[n]] then lost[#lost + 1] = letter .. part[n] end
    end
  end
end
return lost
