-- Shared by every script: the names of a queue's keys, and the few moves a message can make.
-- A message is a stream entry with the eleven fields of FIELDS, always all of them and always in this
-- order, so that stream nodes store the names once and scripts read values by position.

local HIGH, NORMAL, LOW, ISOLATED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local DELAYED, BODIES, DEAD = KEYS[5], KEYS[6], KEYS[7]
local COUNTERS, RECORD, WORKERS, WAKE, CANCELLED = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]

local GROUP = 'workers'
local STREAM = {h = HIGH, n = NORMAL, l = LOW, i = ISOLATED}
local LETTERS = {'h', 'n', 'l', 'i'}

-- p priority letter, i id, t task, q enqueued (ms), a finished attempts, d deliveries charged,
-- l deliveries lost, x expiry (ms, 0 never), y history, h head, b body
local FIELDS = {'p', 'i', 't', 'q', 'a', 'd', 'l', 'x', 'y', 'h', 'b'}
local P, ID, TASK, ENQUEUED, ATTEMPT, DELIVERY, LOST, EXPIRES, HISTORY, HEAD, BODY =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

-- History is JSON lines, newest first; older lines fall off beyond this many bytes.
local HISTORY_BYTES = 16384
-- More wake-ups than this may not wait on the list: a worker that wakes for one claims many messages.
local WAKE_TOKENS = 16

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Lua prints large numbers as 1.7e+12; ids and scores need all their digits.
local function int(n)
  return string.format('%.0f', n)
end

local function count(field, by)
  if by ~= 0 then redis.call('HINCRBY', COUNTERS, field, by) end
end

local function entry_ms(entry_id)
  return tonumber(string.match(entry_id, '^(%d+)'))
end

-- The values of a stream entry in the order of FIELDS, or nil for one that was not written by us.
local function values_of(flat)
  if #flat ~= 22 then return nil end
  local v = {}
  for n = 1, 11 do
    if flat[2 * n - 1] ~= FIELDS[n] then return nil end
    v[n] = flat[2 * n]
  end
  if v[P] ~= 'h' and v[P] ~= 'n' and v[P] ~= 'l' then return nil end
  for n = ENQUEUED, EXPIRES do
    if not string.find(v[n], '^%d+$') then return nil end
  end
  return v
end

local function read(key, entry_id)
  local got = redis.call('XRANGE', key, entry_id, entry_id)
  if #got == 0 then return nil end
  return got[1][2]
end

-- The newest entry that was handed out; all behind it are ready. Other groups may read our streams too.
local function last_delivered(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, info in ipairs(groups.err and {} or groups) do
    local of = {}
    for n = 1, #info, 2 do of[info[n]] = info[n + 1] end
    if of.name == GROUP then return of['last-delivered-id'] end
  end
  return nil
end

local function flat_of(v)
  local flat = {}
  for n = 1, 11 do
    flat[2 * n - 1] = FIELDS[n]
    flat[2 * n] = v[n]
  end
  return flat
end

local function remember(v, line)
  local history = line .. '\n' .. v[HISTORY]
  if #history > HISTORY_BYTES then
    history = string.sub(history, 1, HISTORY_BYTES)
    history = string.match(history, '^(.*)\n') or ''
  end
  v[HISTORY] = history
end

local function wake()
  if redis.call('LLEN', WAKE) < WAKE_TOKENS then redis.call('LPUSH', WAKE, '1') end
end

-- A message whose workers died is run alone, so that it takes no neighbour over the limit.
local function append(v)
  local key = STREAM[v[P]]
  if tonumber(v[LOST]) > 0 then
    local isolate_after = tonumber(redis.call('HGET', RECORD, 'isolateAfter') or 2)
    if tonumber(v[LOST]) >= isolate_after then key = ISOLATED end
  end
  redis.call('XADD', key, '*', unpack(flat_of(v)))
end

local function make_ready(v)
  append(v)
  wake()
end

local function make_delayed(v, due, now)
  -- An idle worker sleeps for up to a second, until a message that it knew of is due: not this one.
  if due - now < 1000 then wake() end
  local member = v[ID]
  local n = 0
  while redis.call('HEXISTS', BODIES, member) == 1 do
    n = n + 1
    member = v[ID] .. '#' .. n
  end
  redis.call('HSET', BODIES, member, cmsgpack.pack(v))
  redis.call('ZADD', DELAYED, int(due), member)
end

local function make_dead(v, reason)
  local flat = flat_of(v)
  flat[23], flat[24] = 'r', reason
  redis.call('XADD', DEAD, '*', unpack(flat))
  count('dead', 1)
  local most = tonumber(redis.call('HGET', RECORD, 'deadMessages') or 0)
  if most > 0 and redis.call('XLEN', DEAD) > most then
    count('purged', redis.call('XTRIM', DEAD, 'MAXLEN', int(most)))
  end
end

local function discard(reason)
  count('discarded', 1)
  count('discarded:' .. reason, 1)
end

-- An entry that somebody XADDed by hand, or that is damaged: kept for inspection, never handed out.
local function bury_garbage(flat, now)
  local body = cmsgpack.pack(flat)
  make_dead({'n', '', '', int(now), '0', '0', '0', '0', '', '', body}, 'undecodable')
  count('accepted', 1)
end

-- Takes a leased entry away from its worker. XACK's answer is the fence: a reclaimed message is a new
-- entry, so an id in the pending list belongs to its first claimer for ever. Returns nil when it is gone.
local function take(key, entry_id, now)
  if redis.call('XACK', key, GROUP, entry_id) == 0 then return nil end
  local flat = read(key, entry_id)
  if not flat then return nil end
  redis.call('XDEL', key, entry_id)
  local v = values_of(flat)
  if not v then bury_garbage(flat, now) end
  return v
end

-- Puts a taken message back. A charged one lost its worker: it counts towards the delivery limit.
local function put_back(v, charged, reason, worker, now)
  if charged then
    v[DELIVERY] = int(v[DELIVERY] + 1)
    v[LOST] = int(v[LOST] + 1)
    count('redelivered', 1)
    remember(v, cjson.encode({
      reason = reason, worker = worker, attempt = tonumber(v[ATTEMPT]),
      delivery = tonumber(v[DELIVERY]), endedMs = now,
    }))
    local limit = tonumber(redis.call('HGET', RECORD, 'maxDeliveries') or 5)
    if tonumber(v[LOST]) >= limit then
      make_dead(v, 'delivery_limit')
      return
    end
  end
  make_ready(v)
end

local function expired(v, now)
  local at = tonumber(v[EXPIRES])
  return at > 0 and at <= now
end

-- Lua cannot unpack more than some thousands of values.
local PROMOTED_AT_ONCE = 4000

-- Due messages leave the delayed set together: a million may come due at once, and each command counts.
local function promote(now, limit)
  limit = math.min(limit, PROMOTED_AT_ONCE)
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', int(now), 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  local packed = redis.call('HMGET', BODIES, unpack(due))
  redis.call('ZREM', DELAYED, unpack(due))
  redis.call('HDEL', BODIES, unpack(due))
  for n = 1, #due do
    -- Expired ones too: the claim that drops them tells their worker.
    if packed[n] then append(cmsgpack.unpack(packed[n])) end
  end
  wake()
  return #due
end

-- Histograms of waiting and running are fields of the counters: <name>0, <name>1, ... one a bucket, and
-- <name>sum in ms. These upper bounds (ms) are the only ones: stats.lua hands them to whoever reads.
local BOUNDS = {5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 3600000}

local function bucket(ms)
  for k = 1, #BOUNDS do
    if ms <= BOUNDS[k] then return k - 1 end
  end
  return #BOUNDS
end

local function observe(name, list)
  local tally, sum = {}, 0
  for _, ms in ipairs(list) do
    local b = bucket(ms)
    tally[b] = (tally[b] or 0) + 1
    sum = sum + ms
  end
  for b, n in pairs(tally) do count(name .. b, n) end
  count(name .. 'sum', sum)
end
