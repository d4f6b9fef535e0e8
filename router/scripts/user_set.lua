-- Give one field of a user's record another value.
--
-- KEYS  none
-- ARGV  1 account, 2 field, 3 value, 4 the encoded UserChanged, 5 run id of the server
-- Reads   cleared
-- Reads and writes  user:{account}, copies, ledger; PUBLISH control
--
-- Returns {'OK', ledger entry}, {'UNKNOWN'} or {'UNCLEARED'}; a venue that never was cleared counts as cleared
--
-- Atomic, because the value in force and the ledger must agree. Run twice it writes two equal entries.

local call = redis.call
local key = 'user:' .. ARGV[1]
if call('EXISTS', key) == 0 then
  return {'UNKNOWN'}
end
if not is_cleared(true) then
  return {'UNCLEARED'}
end
local n = append_to_ledger(ARGV[4])
set_user_field(ARGV[1], ARGV[2], ARGV[3])
call('PUBLISH', 'control', 'limits ' .. ARGV[1])
return {'OK', n}
