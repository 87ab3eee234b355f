-- Renew the lease of an upload, or end it.
--
-- KEYS[1..] uploads under way that name it  ARGV[1] its name  ARGV[2] its lease in ms; 0: it has ended
--
-- Returns nothing.

-- Not into the append-only file, see upload.lua.
pcall(redis.set_repl, redis.REPL_NONE)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, uploads in ipairs(KEYS) do
  if ARGV[2] == '0' then
    redis.call('ZREM', uploads, ARGV[1])
  else
    redis.call('ZADD', uploads, now + ARGV[2], ARGV[1])
    redis.call('PEXPIRE', uploads, ARGV[2])
  end
end
