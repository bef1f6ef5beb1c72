#!lua flags=allow-oom
-- Makes due messages ready. ARGV: limit. Returns how many were due.
return promote(now_ms(), tonumber(ARGV[1]))
