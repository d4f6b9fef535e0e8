-- Disable a user: fence the FIX session, cancel every order, tell the gateways.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 account, 2 the encoded UserDisabled, 3 the encoded CancelAll
--       4 msgpack, flat, three per symbol of the venue, sorted by db: name, db, incarnation
--       5 run id of the server
-- Reads   DB 0 cleared, home:{symbol}, settled, open:{account}. Shard DBs cleared, home:{symbol}, last of
--         orders:{symbol}
-- Writes  DB 0 user:, copies, lost, session:{account}, disconnects, ledger; PUBLISH control. Shard DBs orders:{symbol}, of
--         the symbols in which it may have orders (streams.lua)
--
-- Returns {'OK', ledger entry}, {'UNKNOWN'}, {'ALREADY'}; {'UNCLEARED', db}, {'HOME', symbol}: nothing is
--         written; what never was cleared counts as cleared
--
-- Atomic, because no order of the account may get into a stream behind its CancelAll: the session's epoch is
-- raised in the same step, and admission refuses the old one. Run again it changes nothing. Nothing is copied for
-- it any more: it could never read that.
-- All checks come before the first write. Limits: some 5 µs per symbol.

local call = redis.call
local account, symbols = ARGV[1], cmsgpack.unpack(ARGV[4])
local key = 'user:' .. account
local disabled = call('HGET', key, 'disabled')
if not disabled then
  return {'UNKNOWN'}
end
if disabled == '1' then
  return {'ALREADY'}
end

if not is_cleared(true) then
  return {'UNCLEARED', 0}
end
local time = call('TIME')
local homes, seqs, stamps, away = read_streams(symbols, 3, time[1] .. string.format('%06d', time[2]), true)
local refused = wrong_home(symbols, 3, homes, away)
if refused then
  return refused
end
local may_have, written = may_have_orders(account), {}
for i = 1, #symbols, 3 do
  local index = (i + 2) / 3
  if away[index] then
    return {'UNCLEARED', symbols[i + 1]}
  end
  if may_have(symbols[i], seqs[index]) then
    written[#written + 1] = index
  end
end

local n = append_to_ledger(ARGV[2])
call('HSET', key, 'disabled', '1')
call('HINCRBY', 'session:' .. account, 'epoch', 1)
call('HSET', 'session:' .. account, 'owner', '', 'until_ms', 0, 'grace_ms', '', 'missed', '')
call('ZREM', 'disconnects', account)
end_drop_copy(account)
append_everywhere(symbols, 3, written, seqs, stamps, ARGV[3])
call('PUBLISH', 'control', 'disabled ' .. account)
return {'OK', n}
