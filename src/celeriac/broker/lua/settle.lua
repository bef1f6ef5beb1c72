#!lua flags=allow-oom
-- Settles leased messages with any outcome but Done. ARGV: the count, then eight values for each:
-- stream letter, entry id, outcome (R retry, X dead letter, I discard, W wait), delay ms, reason,
-- history line ('' none), '1' when head and body are replaced, run time in ms ('' when user code did not
-- run: no attempt is counted); then, for replaced ones only, the new head and body. Returns the indexes (from 0) whose lease was no longer held.
local now = now_ms()
local lost, runs, at = {}, {}, 2
for n = 0, tonumber(ARGV[1]) - 1 do
  local letter, entry_id, outcome, delay = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local reason, line, replaced, run = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6] == '1', ARGV[at + 7]
  at = at + 8
  local head, body
  if replaced then
    head, body = ARGV[at], ARGV[at + 1]
    at = at + 2
  end
  local v = take(STREAM[letter], entry_id, now)
  if not v then
    lost[#lost + 1] = n
  else
    if outcome ~= 'W' then v[DELIVERY] = int(v[DELIVERY] + 1) end
    if run ~= '' then
      v[ATTEMPT] = int(v[ATTEMPT] + 1)
      runs[#runs + 1] = tonumber(run)
    end
    if line ~= '' then remember(v, line) end
    if replaced then v[HEAD], v[BODY] = head, body end
    if outcome == 'R' then
      count('retried', 1)
      if delay > 0 then make_delayed(v, now + delay, now) else make_ready(v) end
    elseif outcome == 'W' then
      make_delayed(v, now + delay, now)
    elseif outcome == 'X' then
      make_dead(v, reason)
    else
      discard(reason)
    end
  end
end
observe('run', runs)
return lost
