-- Put a lost entry back into the ledger, with the number and stamp that it had, and carry it out.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 shard db, 2 lease owner, 3 lease epoch, 4 number, 5 stamp in µs, 6 the encoded entry, 7 kind, 8 account
--       of 'user': 9 username, 10 password hash; of 'password': 9 hash; of 'disable': nothing
--       of 'set': 9 field, 10 value
--       of 'deposit' and 'withdraw': 9 asset, 10 amount (decimal text), 11 reference
-- Reads   Shard DB lease. Last of ledger
-- Writes  cleared (''), ledger; and what the kind says: user_ids, usernames, user:{account},
--         session:{account}, disconnects, copies, lost, bal:{account}, totals, ledger:refs; PUBLISH control
--
-- Returns {'OK'}
--         {'THERE'}                 it stands there already: nothing is written
--         {'LEASE'}, {'DIFFERS'}, {'GAP', expected}: likewise
--         {'FUNDS', available}      a withdrawal of more than is available: likewise
--
-- Atomic, because entry and effect are one fact. The lease is that of the shard that keeps the ledger.
-- Orders of a disabled user are canceled by commands of their own, which the journal has too.

local call, format = redis.call, string.format
local number, stamp, entry, kind, account = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8]

call('SELECT', ARGV[1])
local lease = call('HMGET', 'lease', 'owner', 'epoch')
call('SELECT', 0)
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[3] then
  return {'LEASE'}
end
local id = format('%d-0', number)
local last = call('XREVRANGE', 'ledger', '+', '-', 'COUNT', 1)[1]
local stands = last and tonumber(string.match(last[1], '^(%d+)')) or 0
if number <= stands then
  local found = call('XRANGE', 'ledger', id, id)[1]
  return {(not found or found[2][2] == entry and found[2][4] == stamp) and 'THERE' or 'DIFFERS'}
end
if number ~= stands + 1 then
  return {'GAP', stands + 1}
end

local user, bal = 'user:' .. account, 'bal:' .. account
if kind == 'user' then
  call('SET', 'user_ids', account)
  call('HSET', 'usernames', ARGV[9], account)
  call('HSET', user, 'username', ARGV[9], 'password_hash', ARGV[10], 'created_us', stamp, 'disabled', '0')
elseif kind == 'password' then
  call('HSET', user, 'password_hash', ARGV[9])
elseif kind == 'set' then
  set_user_field(account, ARGV[9], ARGV[10])
elseif kind == 'disable' then
  call('HSET', user, 'disabled', '1')
  call('HINCRBY', 'session:' .. account, 'epoch', 1)
  call('HSET', 'session:' .. account, 'owner', '', 'until_ms', 0, 'grace_ms', '', 'missed', '')
  call('ZREM', 'disconnects', account)
  end_drop_copy(account)
  call('PUBLISH', 'control', 'disabled ' .. account)
else
  local asset, amount, available = ARGV[9], ARGV[10], ARGV[9] .. ':a'
  if kind == 'deposit' then
    call('HINCRBY', bal, available, amount)
    call('HINCRBY', 'totals', asset, amount)
  else
    if call('HINCRBY', bal, available, '-' .. amount) < 0 then
      call('HINCRBY', bal, available, amount)
      return {'FUNDS', call('HGET', bal, available)}
    end
    call('HINCRBY', 'totals', asset, '-' .. amount)
  end
  call('HSET', 'ledger:refs', ARGV[11], format('%d ', number) .. table.concat({kind, account, asset, amount}, ' '))
end
call('XADD', 'ledger', id, 'e', entry, 't', stamp)
call('SET', 'cleared', '')
return {'OK'}
