-- Deposit or withdraw, once per reference.
--
-- KEYS  none
-- ARGV  1 account, 2 asset, 3 amount (decimal text, > 0), 4 'deposit' | 'withdraw', 5 reference
--       6 the encoded Deposited or Withdrawn, 7 run id of the server
-- Reads   cleared, user:{account}
-- Writes  bal:{account}, totals, ledger:refs, ledger
--
-- Returns {'OK', ledger entry}
--         {'AGAIN', ledger entry}   the same request was carried out before
--         {'REF', ledger entry}     another request was, under this reference
--         {'UNCLEARED'}             likewise nothing is written
--         {'UNKNOWN'}               no such user
--         {'TOTAL'}                 the asset's total would exceed 2^62
--         {'FUNDS'}                 more than is available
--
-- Money comes and goes before any engine has run, too: a venue that never was cleared has no journal that
-- could have more than its ledger. What stands in the ledger is told of an uncleared server as well.
-- Atomic, because balance, total, reference and ledger entry are one fact.
-- Amounts are never Lua numbers: only the sign of HINCRBY's reply is looked at; whether the total is at
-- most 2^62 shows when 2^62 is taken from it for a moment. Everything that is refused is taken back.

local call = redis.call
local account, asset, amount, kind, ref, entry = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local LIMIT = '4611686018427387904'
local request = table.concat({kind, account, asset, amount}, ' ')

local known = call('HGET', 'ledger:refs', ref)
if known then
  local n, before = string.match(known, '^(%d+) (.*)$')
  return {before == request and 'AGAIN' or 'REF', tonumber(n)}
end
if not is_cleared(true) then
  return {'UNCLEARED'}
end
if call('EXISTS', 'user:' .. account) == 0 then
  return {'UNKNOWN'}
end

local available = asset .. ':a'
if kind == 'deposit' then
  local total = redis.pcall('HINCRBY', 'totals', asset, amount)
  if type(total) == 'table' then
    if string.find(total.err, 'overflow', 1, true) then
      return {'TOTAL'}
    end
    return total
  end
  local above = call('HINCRBY', 'totals', asset, '-' .. LIMIT)
  call('HINCRBY', 'totals', asset, LIMIT)
  if above > 0 then
    call('HINCRBY', 'totals', asset, '-' .. amount)
    return {'TOTAL'}
  end
  call('HINCRBY', 'bal:' .. account, available, amount)
else
  if call('HINCRBY', 'bal:' .. account, available, '-' .. amount) < 0 then
    call('HINCRBY', 'bal:' .. account, available, amount)
    return {'FUNDS'}
  end
  call('HINCRBY', 'totals', asset, '-' .. amount)
end

local n = append_to_ledger(entry)
call('HSET', 'ledger:refs', ref, n .. ' ' .. request)
return {'OK', n}
