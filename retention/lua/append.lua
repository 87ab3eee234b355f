-- Append records to the audit log, if its head is still the one that they were chained to.
--
-- KEYS[1] the log  KEYS[2] its ends
-- ARGV[1] the head before  ARGV[2] the head afterwards  ARGV[3..] triples of an id, a record and its hash, in order
--
-- Returns 1 when appended, or already appended by the same call whose reply was lost; 0 when the head is another.
local last = #ARGV - 2
if redis.call('HGET', KEYS[2], 'head') ~= ARGV[1] then
  -- The hash says it all: no other record has it, whatever was appended since.
  local found = redis.call('XRANGE', KEYS[1], ARGV[last], ARGV[last])[1]
  return (found and found[2][4] == ARGV[last + 2]) and 1 or 0
end
even_if_full()
for i = 3, last, 3 do
  redis.call('XADD', KEYS[1], ARGV[i], 'record', ARGV[i + 1], 'hash', ARGV[i + 2])
end
redis.call('HSET', KEYS[2], 'head', ARGV[2])
return 1
