-- Put a lost command back into its stream, with the number and stamp that it had, and reserve its money.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 shard db, 2 lease owner, 3 lease epoch, 4 symbol, 5 incarnation, 6 seq, 7 stamp in µs, 8 the command
--       9 account, 10 asset and 11 amount to reserve (decimal text; '' = nothing)
--       12 FIX session (incarnation number), 13 MsgSeqNum (0 = of no message)
--       14 version of the rules that it defines ('' = it defines none)
--       15 'schedule' or 'operator' = it is a change of the trading phase that one of them made; '' = it is none
-- Reads   DB 0 home:{symbol}. Shard DB lease, home:{symbol}, last of orders:{symbol}
-- Writes  DB 0 bal:{account}, session:{account} dealt, home:{symbol}. Shard DB orders:{symbol}, cleared (''),
--         phase:{symbol} seq, scheduled
--
-- Returns {'OK'}
--         {'THERE'}                 it stands there already: nothing is written
--         {'LEASE'}, {'HOME'}, {'DIFFERS'}, {'GAP', expected}: likewise
--         {'FUNDS', available}      the account does not have it available: likewise
--
-- Atomic as admission is: no money without its order, no order without its money. "Dealt with" is raised
-- only in the session that the message came in, so that its resend is not taken for a new one. When a change of
-- the schedule was due is not known any more; no later than its stamp: so none up to there is made again. Nor is
-- the name of a request: who repeats one that was lost asks for that phase once more.
-- Redis is closed to gateways meanwhile: the mark of a cleared server goes with the first entry.
-- All checks come before the first write, but for the reservation, which is taken back where it fails.

local call, format = redis.call, string.format
local db, symbol, seq, stamp, command, account = ARGV[1], ARGV[4], tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9]
local home, orders = 'home:' .. symbol, 'orders:' .. symbol

local function answer(reply)
  call('SELECT', 0)
  return reply
end

local here = call('HGET', home, 'incarnation')
call('SELECT', db)
local lease = call('HMGET', 'lease', 'owner', 'epoch')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then
  return answer({'LEASE'})
end
if here ~= ARGV[5] or call('GET', home) ~= ARGV[5] then
  return answer({'HOME'})
end
local id = format('%d-0', seq)
local last = call('XREVRANGE', orders, '+', '-', 'COUNT', 1)[1]
local number = last and tonumber(string.match(last[1], '^(%d+)')) or 0
if seq <= number then
  local entry = call('XRANGE', orders, id, id)[1]
  return answer({(not entry or entry[2][2] == command and entry[2][4] == stamp) and 'THERE' or 'DIFFERS'})
end
if seq ~= number + 1 then
  return answer({'GAP', number + 1})
end

call('SELECT', 0)
if ARGV[11] ~= '' then
  local bal, available, pending = 'bal:' .. account, ARGV[10] .. ':a', ARGV[10] .. ':p'
  if call('HINCRBY', bal, available, '-' .. ARGV[11]) < 0 then
    call('HINCRBY', bal, available, ARGV[11])
    return {'FUNDS', call('HGET', bal, available)}
  end
  call('HINCRBY', bal, pending, ARGV[11])
end
if ARGV[14] ~= '' then
  call('HSET', home, 'rules', ARGV[14], 'define', command)
end
if ARGV[13] ~= '0' then
  local session = call('HMGET', 'session:' .. account, 'number', 'dealt')
  if session[1] == ARGV[12] and (tonumber(session[2]) or 0) < tonumber(ARGV[13]) then
    call('HSET', 'session:' .. account, 'dealt', ARGV[13])
  end
end
call('SELECT', db)
call('XADD', orders, id, 'c', command, 't', stamp)
if ARGV[15] ~= '' then
  call('HSET', 'phase:' .. symbol, 'seq', seq)
end
if ARGV[15] == 'schedule' then
  call('HSET', 'phase:' .. symbol, 'scheduled', stamp)
end
call('SET', 'cleared', '')
return answer({'OK'})
