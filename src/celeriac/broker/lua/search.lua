#!lua flags=no-writes
-- Searches dead letters, newest first. ARGV: where to begin (an end of XREVRANGE), most matches, most
-- letters to look at, the message id ('' any), then texts in lower case that reason, task and history
-- must contain ('' any). Whatever was not written by us matches: the caller looks closer.
-- Returns {the entry that was looked at last, '' after the oldest letter; matching entries}.
local PAGE = 100
local at, most, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local id, reason, task, history = ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local function has(value, text)
  return text == '' or string.find(string.lower(value), text, 1, true) ~= nil
end

local function matches(flat)
  if #flat ~= 24 then return true end
  return (id == '' or flat[2 * ID] == id) and has(flat[24], reason) and has(flat[2 * TASK], task)
    and has(flat[2 * HISTORY], history)
end

local found, last = {}, ''
while left > 0 and #found < most do
  local page = redis.call('XREVRANGE', DEAD, at, '-', 'COUNT', math.min(PAGE, left))
  if #page == 0 then return {'', found} end
  for _, entry in ipairs(page) do
    last, left = entry[1], left - 1
    if matches(entry[2]) then
      found[#found + 1] = entry
      if #found == most then break end
    end
  end
  at = '(' .. last
end
return {last, found}
