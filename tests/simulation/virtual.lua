-- Around every script of the queue when it runs in a simulation: the last key is the time, in ms since
-- the epoch, and what a server does by its own clock is done by that one instead. The answer is
-- {what the script answered, facts}; the facts are what lies where afterwards.
local NOW, REAL = tonumber(KEYS[#KEYS]), redis

local function add(key, id, ...)
  if id ~= '*' then return REAL.call('XADD', key, id, ...) end
  return REAL.call('XADD', key, KEYS[#KEYS] .. '-*', ...)
end

-- When an entry was delivered last stands beside the stream.
local function delivered(key, ids)
  for _, id in ipairs(ids) do REAL.call('HSET', key .. ':delivered', id, NOW) end
end

local function read_group(word, group, consumer, ...)
  local got = REAL.call('XREADGROUP', word, group, consumer, ...)
  for _, stream in ipairs(got or {}) do
    local ids = {}
    for n, entry in ipairs(stream[2]) do ids[n] = entry[1] end
    delivered(stream[1], ids)
  end
  return got
end

local function claim(key, group, consumer, idle, ...)
  local kept = REAL.call('XCLAIM', key, group, consumer, idle, ...)
  delivered(key, kept)
  return kept
end

local function pending(key, group, word, idle, from, to, limit)
  if word ~= 'IDLE' then return REAL.call('XPENDING', key, group, word, idle, from, to, limit) end
  local found = {}
  for _, row in ipairs(REAL.call('XPENDING', key, group, from, to, 10000)) do
    local at = tonumber(REAL.call('HGET', key .. ':delivered', row[1]))
    if #found < tonumber(limit) and NOW - at >= tonumber(idle) then found[#found + 1] = row end
  end
  return found
end

local function ask_pending(key, group, ...)
  if select('#', ...) == 0 then return REAL.call('XPENDING', key, group) end
  if select(1, ...) == 'IDLE' then return pending(key, group, ...) end
  return REAL.call('XPENDING', key, group, ...)
end

local function set(key, value, nx, px, ms)
  if nx ~= 'NX' or px ~= 'PX' then error('a SET that the simulation does not know') end
  local until_ms = tonumber(REAL.call('HGET', 'expiries', key) or 0)
  if until_ms > 0 and until_ms <= NOW then REAL.call('DEL', key) end
  local done = REAL.call('SET', key, value, 'NX')
  if done then REAL.call('HSET', 'expiries', key, NOW + tonumber(ms)) end
  return done
end

local function time()
  return {string.format('%.0f', math.floor(NOW / 1000)), string.format('%.0f', NOW % 1000 * 1000)}
end

local OURS = {TIME = time, XADD = add, XREADGROUP = read_group, XCLAIM = claim, XPENDING = ask_pending, SET = set}

local redis = setmetatable({
  call = function(name, ...)
    local ours = OURS[name]
    if ours then return ours(...) end
    return REAL.call(name, ...)
  end,
  pcall = function(name, ...)
    local ours = OURS[name]
    if not ours then return REAL.pcall(name, ...) end
    local fine, answer = pcall(ours, ...)
    if fine or type(answer) == 'table' then return answer end
    return {err = answer}
  end,
}, {__index = REAL})

local function facts()
  local found = {}
  for n = 1, 4 do
    local of = REAL.pcall('XPENDING', KEYS[n], 'workers')
    found[n] = REAL.call('XLEN', KEYS[n])
    found[n + 4] = of.err and 0 or of[1]
  end
  found[9], found[10] = REAL.call('ZCARD', KEYS[5]), REAL.call('HLEN', KEYS[6])
  found[11], found[12] = REAL.call('XLEN', KEYS[7]), REAL.call('LLEN', KEYS[11])
  local names = {'accepted', 'done', 'discarded', 'dead', 'retried', 'redelivered'}
  for n, value in ipairs(REAL.call('HMGET', KEYS[8], unpack(names))) do found[12 + n] = tonumber(value or 0) end
  return found
end

local function script()
-- SCRIPT
end

local answer = script()
if type(answer) == 'table' and answer.err then return answer end
return {answer, facts()}
