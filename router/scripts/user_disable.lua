-- Disable a user: fence the FIX session, cancel every order, tell the gateways.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 account, 2 the encoded UserDisabled, 3 the encoded CancelAll
--       4 msgpack, flat, three per symbol of the venue, sorted by db: name, db, incarnation
--       5 run id of the server
-- Reads   DB 0 cleared, home:{symbol}. Shard DBs cleared, home:{symbol}, last of orders:{symbol}
-- Writes  DB 0 user:, session:{account}, ledger; PUBLISH control. Shard DBs orders:{symbol}
--
-- Returns {'OK', ledger entry}, {'UNKNOWN'}, {'ALREADY'}; {'UNCLEARED', db}, {'HOME', symbol}: nothing is
--         written; what never was cleared counts as cleared
--
-- Atomic, because no order of the account may get into a stream behind its CancelAll: the session's epoch is
-- raised in the same step, and admission refuses the old one. Run again it changes nothing.
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
local now = time[1] .. string.format('%06d', time[2])
for i = 1, #symbols, 3 do
  if call('HGET', 'home:' .. symbols[i], 'incarnation') ~= symbols[i + 2] then
    return {'HOME', symbols[i]}
  end
end
local ids, stamps = {}, {}
for i = 1, #symbols, 3 do
  call('SELECT', symbols[i + 1])
  if not is_cleared(true) then
    call('SELECT', 0)
    return {'UNCLEARED', symbols[i + 1]}
  end
  local last = call('XREVRANGE', 'orders:' .. symbols[i], '+', '-', 'COUNT', 1)[1]
  if not last or call('GET', 'home:' .. symbols[i]) ~= symbols[i + 2] then
    call('SELECT', 0)
    return {'HOME', symbols[i]}
  end
  ids[i] = (tonumber(string.match(last[1], '^(%d+)')) + 1) .. '-0'
  stamps[i] = tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
end
call('SELECT', 0)

local n = append_to_ledger(ARGV[2])
call('HSET', key, 'disabled', '1')
call('HINCRBY', 'session:' .. account, 'epoch', 1)
call('HSET', 'session:' .. account, 'owner', '', 'until_ms', 0)
for i = 1, #symbols, 3 do
  call('SELECT', symbols[i + 1])
  call('XADD', 'orders:' .. symbols[i], ids[i], 'c', ARGV[3], 't', stamps[i])
end
call('SELECT', 0)
call('PUBLISH', 'control', 'disabled ' .. account)
return {'OK', n}
