#!lua flags=allow-oom
-- Deletes dead letters that died before ARGV[1] (ms). Returns how many went.
local gone = redis.call('XTRIM', DEAD, 'MINID', ARGV[1])
count('purged', gone)
return gone
