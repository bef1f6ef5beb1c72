"""The queue: its scripts, and what stands before them."""

from tests.mutants.table import Edit

_LUA = "src/celeriac/broker/lua/"
_QUEUE = "src/celeriac/broker/queue.py"
_WIRE = "src/celeriac/broker/wire.py"
_SIGNING = "src/celeriac/broker/signing.py"

EDITS = (
    Edit(
        "an entry that is acknowledged stays in its stream",
        _LUA + "common.lua",
        "  redis.call('XDEL', key, entry_id)\n  local v = values_of(flat)",
        "  local v = values_of(flat)",
    ),
    Edit(
        "a poison is handed out once more",
        _LUA + "common.lua",
        "return deliveries >= (tonumber(most or 5) or 5)",
        "return deliveries > (tonumber(most or 5) or 5)",
    ),
    Edit(
        "a lost delivery is not counted",
        _LUA + "common.lua",
        "v[LOST] = int(v[LOST] + 1)",
        "v[LOST] = int(v[LOST] + 0)",
    ),
    Edit(
        "suspects run among the others",
        _LUA + "common.lua",
        "if tonumber(v[LOST]) >= isolate_after then key = ISOLATED end",
        "if tonumber(v[LOST]) >= isolate_after then key = STREAM[v[P]] end",
    ),
    Edit(
        "nobody is woken by a message that is ready again",
        _LUA + "common.lua",
        "  enter(v)\n  wake()\nend",
        "  enter(v)\nend",
    ),
    Edit(
        "delayed messages are ready before their time",
        _LUA + "common.lua",
        "'-inf', int(now), 'LIMIT', 0, limit)",
        "'-inf', '+inf', 'LIMIT', 0, limit)",
    ),
    Edit(
        "promoted messages come again",
        _LUA + "common.lua",
        "redis.call('ZREM', DELAYED, unpack(due))",
        "redis.call('ZCARD', DELAYED)",
    ),
    Edit(
        "dead letters are not counted",
        _LUA + "common.lua",
        "  count('dead', 1)\n",
        "",
    ),
    Edit(
        "more dead letters are kept than a queue wants",
        _LUA + "common.lua",
        "redis.call('XLEN', DEAD) > most then",
        "redis.call('XLEN', DEAD) < most then",
    ),
    Edit(
        "an expired message runs",
        _LUA + "claim.lua",
        "or too_large(v) or expired(v, now) or",
        "or too_large(v) or",
    ),
    Edit(
        "a cancelled message runs",
        _LUA + "claim.lua",
        "local any_cancelled = redis.call('ZCARD', CANCELLED) > 0",
        "local any_cancelled = false",
    ),
    Edit(
        "a paused queue hands out",
        _LUA + "claim.lua",
        "local paused = record[2] == '1' or record[3] == '1'",
        "local paused = record[2] == '1'",
    ),
    Edit(
        "low goes before high",
        _LUA + "claim.lua",
        "for _, letter in ipairs({'h', 'n', 'l'}) do serve(letter, left) end",
        "for _, letter in ipairs({'l', 'n', 'h'}) do serve(letter, left) end",
    ),
    Edit(
        "a suspect comes to a worker with other work",
        _LUA + "claim.lua",
        "local drawn_alone = held == 0 and draw('i', 1) > 0",
        "local drawn_alone = draw('i', 1) > 0",
    ),
    Edit(
        "what is done is not taken away",
        _LUA + "done.lua",
        "  redis.call('XDEL', key, unpack(ids))\n",
        "",
    ),
    Edit(
        "what is done is not counted",
        _LUA + "done.lua",
        "count('done', #runs)",
        "count('done', 0)",
    ),
    Edit(
        "an attempt is not counted",
        _LUA + "settle.lua",
        "v[ATTEMPT] = int(v[ATTEMPT] + 1)",
        "v[ATTEMPT] = int(v[ATTEMPT])",
    ),
    Edit(
        "a retry does not wait",
        _LUA + "settle.lua",
        "if delay > 0 then make_delayed(v, now + delay, now) else make_ready(v) end",
        "make_ready(v)",
    ),
    Edit(
        "a dead letter is discarded",
        _LUA + "settle.lua",
        "elseif outcome == 'X' then\n      make_dead(v, reason)",
        "elseif outcome == 'X' then\n      discard(reason)",
    ),
    Edit(
        "a renewed lease runs out",
        _LUA + "renew.lua",
        "'XCLAIM', STREAM[letter], GROUP, consumer, 0, unpack(part))",
        "'XCLAIM', STREAM[letter], GROUP, consumer, 86400000, unpack(part))",
    ),
    Edit(
        "expired leases stay with the dead",
        _LUA + "reclaim.lua",
        "'IDLE', int(lease), '-', '+', limit)",
        "'IDLE', int(lease * 1000), '-', '+', limit)",
    ),
    Edit(
        "a server that stood still takes leases from the living",
        _LUA + "reclaim.lua",
        "if ARGV[3] == 'look' or now - watched < lease then return 0 end",
        "if ARGV[3] == 'look' then return 0 end",
    ),
    Edit(
        "a worker's death charges nobody",
        _LUA + "abandon.lua",
        "put_back(v, everything or running[letter .. pending[1]] == true,",
        "put_back(v, false,",
    ),
    Edit(
        "a key sends twice within its time",
        _LUA + "publish.lua",
        "'NX', 'PX', ARGV[at + 8])",
        "'PX', ARGV[at + 8])",
    ),
    Edit(
        "a full queue accepts",
        _LUA + "publish.lua",
        "if room <= 0 then return 'refused',",
        "if room < -1e9 then return 'refused',",
    ),
    Edit(
        "one message is accepted and not counted",
        _LUA + "publish_one.lua",
        "'HINCRBY', counters, 'accepted', 1)) ~=",
        "'HINCRBY', counters, 'accepted', 0)) ~=",
    ),
    Edit(
        "one message into a full queue",
        _LUA + "publish_one.lua",
        "if waiting >= most then return 0 end",
        "if waiting > most + 1e9 then return 0 end",
    ),
    Edit(
        "a redriven message stays a dead letter",
        _LUA + "redrive.lua",
        "    redis.call('XDEL', DEAD, entry_id)\n",
        "",
    ),
    Edit(
        "a redriven message dies of its old attempts",
        _LUA + "redrive.lua",
        "v[ATTEMPT], v[DELIVERY], v[LOST], v[EXPIRES] = '0', '0', '0', '0'",
        "v[DELIVERY], v[LOST], v[EXPIRES] = '0', '0', '0'",
    ),
    Edit(
        "a lost lease counts as settled",
        _QUEUE,
        'for lost in self._run("settle", *args):\n                answers[part[lost]] = False',
        'for lost in self._run("settle", *args):\n                answers[part[lost]] = True',
    ),
    Edit(
        "of many that are done the first thousand",
        _QUEUE,
        "for part in parts(indexes, 1000):",
        "for part in [indexes[:1000]]:",
    ),
    Edit(
        "no lease is renewed",
        _QUEUE,
        "            pairs += (lease[0], lease[1:])\n        return {lease",
        "            pairs = []\n        return {lease",
    ),
    Edit(
        "a delay is forgotten by the short script",
        _QUEUE,
        "if message.delay_ms or message.ttl_ms or",
        "if message.ttl_ms or",
    ),
    Edit(
        "only the first page of a dead worker's messages comes back",
        _QUEUE,
        '            back, more = self._run("abandon", consumer, reason, _PAGE, *mode)',
        '            back, more = self._run("abandon", consumer, reason, 1, *mode)[0], 0',
    ),
    Edit(
        "deliveries are counted from nought",
        _WIRE,
        "delivery=int(delivery) + 1,",
        "delivery=int(delivery),",
    ),
    Edit(
        "a retry loses its new body",
        _WIRE,
        '"1" if replaced else "0",',
        '"0",',
    ),
    Edit(
        "what is refused counts as accepted",
        _WIRE,
        'read[index] = Receipt(messages[index].id, "refused", text)',
        "pass",
    ),
    Edit(
        "a changed message passes for signed",
        _SIGNING,
        "if not hmac.compare_digest(",
        "if False and not hmac.compare_digest(",
    ),
    Edit(
        "a message may change its queue",
        _SIGNING,
        "(place.encode(), id.encode(), task.encode(), head, body)",
        '(b"", id.encode(), task.encode(), head, body)',
    ),
    Edit(
        "unsigned messages run where keys are required",
        _SIGNING,
        "if not self._required and split(head)[0] is None:",
        "if split(head)[0] is None:",
    ),
    Edit(
        "a message that may come twice is not isolated",
        "src/celeriac/broker/record.py",
        '"maxDeliveries": str(max_deliveries),',
        '"maxDeliveries": str(max_deliveries + 1),',
    ),
    Edit(
        "too few replicas are enough",
        "src/celeriac/broker/message.py",
        "return self.replicas >= self.wanted",
        "return True",
    ),
)
