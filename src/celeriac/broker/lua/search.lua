#!lua flags=no-writes
-- Searches dead letters, newest first. ARGV: where to begin (an end of XREVRANGE), most matches, most
-- letters to look at, the message id ('' any), then texts in lower case that reason, task and history
-- must contain ('' any). Whatever was not written by us matches: the caller looks closer.
-- Returns {the entry that was looked at last, '' after the oldest letter; matching entries, each with the
-- length of its body}. Of large values only the beginning comes along, and large letters are read one by one:
-- a page of them must not be in the server's memory at once, nor in the reader's.
local PAGE, PAGE_BYTES, CARRIED_BYTES = 100, 1048576, 65536
local at, most, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local id, reason, task, history = ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local function has(value, text)
  return text == '' or string.find(string.lower(value), text, 1, true) ~= nil
end

local function matches(flat)
  if #flat ~= 2 * WIDTH + 2 then return true end
  return (id == '' or flat[2 * ID] == id) and has(flat[#flat], reason) and has(flat[2 * TASK], task)
    and has(flat[2 * HISTORY], history)
end

local function carried(entry)
  local flat, length = entry[2], 0
  for n = 2, #flat, 2 do
    if flat[n - 1] == 'b' then length = #flat[n] end
    if #flat[n] > CARRIED_BYTES then flat[n] = string.sub(flat[n], 1, CARRIED_BYTES) end
  end
  return {entry[1], flat, length}
end

local function bytes_of(page)
  local bytes = 0
  for _, entry in ipairs(page) do
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
  end
  return bytes
end

local found, last, size = {}, '', 1
while left > 0 and #found < most do
  local page = redis.call('XREVRANGE', DEAD, at, '-', 'COUNT', math.min(size, left))
  if #page == 0 then return {'', found} end
  size = bytes_of(page) > PAGE_BYTES and 1 or math.min(PAGE, size * 4)
  for _, entry in ipairs(page) do
    last, left = entry[1], left - 1
    if matches(entry[2]) then
      found[#found + 1] = carried(entry)
      if #found == most then break end
    end
  end
  at = '(' .. last
end
return {last, found}
