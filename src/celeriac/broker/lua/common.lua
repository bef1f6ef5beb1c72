-- Shared by every script: the names of a queue's keys, and the few moves a message can make.
-- Before it broker/layout.py puts LAYOUT, WAKE_TOKENS, FIELDS, their number WIDTH and their places (P, ID, ...).

local HIGH, NORMAL, LOW, ISOLATED = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local DELAYED, BODIES, DEAD = KEYS[5], KEYS[6], KEYS[7]
local COUNTERS, RECORD, WORKERS, WAKE, CANCELLED = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]

local GROUP = 'workers'
local STREAM = {h = HIGH, n = NORMAL, l = LOW, i = ISOLATED}
local LETTERS = {'h', 'n', 'l', 'i'}

-- History is JSON lines, newest first; older lines fall off beyond this many bytes.
local HISTORY_BYTES = 16384
-- Ids and task names are no longer than this, counts and times have no more digits: what has is not ours.
local NAME_BYTES, COUNT_DIGITS, TIME_DIGITS = 1024, 9, 15
-- So much is kept of each value of an entry that is not ours, and so many of its values.
local GARBAGE_BYTES, GARBAGE_VALUES = 16384, 64
-- A message may grow by so much after it was accepted: a retry writes its head anew.
local GROWTH_BYTES = 65536

-- An error when a newer release has written here in a way that this one may not understand, else nil.
local function beyond_us(layout)
  local theirs = tonumber(layout or 1) or 1
  if theirs <= LAYOUT then return nil end
  return redis.error_reply('NEWERLAYOUT the queue has the data layout ' .. theirs .. ', and this release knows '
    .. LAYOUT .. ' at most: use the newer release; nothing was changed')
end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Lua prints large numbers as 1.7e+12; ids and scores need all their digits.
local function int(n)
  return string.format('%.0f', n)
end

-- A counter that is no number begins anew: the law shows it, and messages move on.
local function count(field, by)
  if by == 0 then return end
  local answer = redis.pcall('HINCRBY', COUNTERS, field, by)
  if type(answer) == 'table' and answer.err then redis.pcall('HSET', COUNTERS, field, int(by)) end
end

-- Workers read the record again when its version is another one.
local function bump_version(now)
  local answer = redis.pcall('HINCRBY', RECORD, 'version', 1)
  if type(answer) == 'table' and answer.err then redis.call('HSET', RECORD, 'version', int(now)) end
end

local function entry_ms(entry_id)
  return tonumber(string.match(entry_id, '^(%d+)'))
end

-- The values of a message, or nil when they cannot be what we wrote.
local function sound(v)
  if v[P] ~= 'h' and v[P] ~= 'n' and v[P] ~= 'l' then return nil end
  local q, a, d, l, x = v[ENQUEUED], v[ATTEMPT], v[DELIVERY], v[LOST], v[EXPIRES]
  if #v[ID] > NAME_BYTES or #v[TASK] > NAME_BYTES or #v[HISTORY] > HISTORY_BYTES
    or #q > TIME_DIGITS or #x > TIME_DIGITS
    or #a > COUNT_DIGITS or #d > COUNT_DIGITS or #l > COUNT_DIGITS
    or not string.find(q .. ' ' .. a .. ' ' .. d .. ' ' .. l .. ' ' .. x, '^%d+ %d+ %d+ %d+ %d+$')
  then
    return nil
  end
  return v
end

-- The values of a stream entry in the order of FIELDS, or nil for one that was not written by us.
local function values_of(flat)
  if #flat ~= 2 * WIDTH then return nil end
  local v = {}
  for n = 1, WIDTH do
    if flat[2 * n - 1] ~= FIELDS[n] then return nil end
    v[n] = flat[2 * n]
  end
  return sound(v)
end

-- A delayed message as it was packed, or nil.
local function unpacked(packed)
  local fine, v = pcall(cmsgpack.unpack, packed)
  if not fine or type(v) ~= 'table' then return nil end
  for n = 1, WIDTH do
    if type(v[n]) ~= 'string' then return nil end
  end
  return sound(v)
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
  for n = 1, WIDTH do
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

-- How many wake-ups wait. Whatever else somebody put there is deleted: a hint is not worth a message.
local function waiting_tokens()
  local tokens = redis.pcall('LLEN', WAKE)
  if type(tokens) == 'number' then return tokens end
  redis.call('DEL', WAKE)
  return 0
end

local function wake()
  if waiting_tokens() < WAKE_TOKENS then redis.call('LPUSH', WAKE, '1') end
end

local function make_delayed(v, due, now)
  -- An idle worker sleeps for less than two seconds, until a message that it knew of is due: not this one.
  if due - now < 2000 then wake() end
  local member = v[ID]
  local n = 0
  while redis.call('HEXISTS', BODIES, member) == 1 do
    n = n + 1
    member = v[ID] .. '#' .. n
  end
  redis.call('ZADD', DELAYED, int(due), member)
  redis.call('HSET', BODIES, member, cmsgpack.pack(v))
end

-- A stream that somebody wrote over, or whose ids are used up, takes no entries: the message waits a minute.
local function append(key, flat, v)
  local answer = redis.pcall('XADD', key, '*', unpack(flat))
  if type(answer) == 'table' and answer.err then
    local now = now_ms()
    make_delayed(v, now + 60000, now)
    return false
  end
  return true
end

-- A message whose workers died is run alone, so that it takes no neighbour over the limit.
local function enter(v)
  local key = STREAM[v[P]]
  if tonumber(v[LOST]) > 0 then
    local isolate_after = tonumber(redis.call('HGET', RECORD, 'isolateAfter') or 2) or 2
    if tonumber(v[LOST]) >= isolate_after then key = ISOLATED end
  end
  append(key, flat_of(v), v)
end

local function make_ready(v)
  enter(v)
  wake()
end

local function make_dead(v, reason)
  local flat = flat_of(v)
  flat[2 * WIDTH + 1], flat[2 * WIDTH + 2] = 'r', reason
  if not append(DEAD, flat, v) then return end
  count('dead', 1)
  local most = tonumber(redis.call('HGET', RECORD, 'deadMessages') or 0) or 0
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
  local kept = {}
  for n = 1, math.min(#flat, GARBAGE_VALUES) do kept[n] = string.sub(flat[n], 1, GARBAGE_BYTES) end
  local p, i, t, q, a, d, l, x, y, h, b = 'n', '', '', int(now), '0', '0', '0', '0', '', '', cmsgpack.pack(kept)
  make_dead({FIELD_VALUES}, 'undecodable')
  count('accepted', 1)
end

-- A script that fails half-way keeps what it did. So what a message may need after it was taken away is
-- asked for first: where all else fails, it is delayed.
local checked = false
local function check_refuge()
  if checked then return end
  redis.call('ZCARD', DELAYED)
  redis.call('HEXISTS', BODIES, '')
  checked = true
end

-- Takes a leased entry away from its worker. XACK's answer is the fence: a reclaimed message is a new
-- entry, so an id in the pending list belongs to its first claimer for ever. Returns nil when it is gone.
local function take(key, entry_id, now)
  check_refuge()
  if redis.call('XACK', key, GROUP, entry_id) == 0 then return nil end
  local flat = read(key, entry_id)
  if not flat then return nil end
  redis.call('XDEL', key, entry_id)
  local v = values_of(flat)
  if not v then bury_garbage(flat, now) end
  return v
end

-- Whether so many deliveries are all that a queue allows; `most` is its record's maxDeliveries.
local function spent(deliveries, most)
  return deliveries >= (tonumber(most or 5) or 5)
end

-- Puts a taken message back. A charged one lost its worker: it counts towards the delivery limit, and where
-- that is reached the message is dead, and true comes back.
local function put_back(v, charged, reason, worker, now)
  if charged then
    v[DELIVERY] = int(v[DELIVERY] + 1)
    v[LOST] = int(v[LOST] + 1)
    count('redelivered', 1)
    remember(v, cjson.encode({
      reason = reason, worker = worker, attempt = tonumber(v[ATTEMPT]),
      delivery = tonumber(v[DELIVERY]), endedMs = now,
    }))
    if spent(tonumber(v[LOST]), redis.call('HGET', RECORD, 'maxDeliveries')) then
      make_dead(v, 'delivery_limit')
      return true
    end
  end
  make_ready(v)
  return false
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
    if packed[n] then
      local v = unpacked(packed[n])
      -- Expired ones too: the claim that drops them tells their worker.
      if v then enter(v) else bury_garbage({due[n], packed[n]}, now) end
    end
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
