-- Read the whole venue at one moment: balances, open orders, positions, and where its streams stand.
--
-- KEYS  none (one server, several databases)
-- ARGV  names of the symbols
-- Reads   DB 0 user_ids, totals, settled, bbo, ledger, copies, disconnects, home:{symbol}, position:{engine}; bal:,
--         open:, outbox:, user:{account} of every account. Shard DBs orders:{symbol}, events:{symbol}
-- Writes  nothing
--
-- Returns {totals, settled, bbo, ledger, accounts, copies, disconnects, symbols}. The first three and copies: flat
--         fields and values. A stream: {first id, last id, entries}, ids '' where it is empty. accounts, from 0
--         on: {balances, open orders, outbox, drop_copy of its user}. disconnects: accounts. symbols, as in ARGV: {db, encoded DefineSymbol in force,
--         orders, events, shard, up to where its engine and its standby need no orders any more ('' where
--         they have not said)}; {} of one that has no home
--
-- Atomic, because admission and settlement move money and positions together: read one after the
-- other, amounts of different moments would not add up although nothing is wrong.
-- Limits: Redis serves nobody meanwhile: some 20 ms per 1,000 accounts with ten open orders each.

local call = redis.call

local function extent(key)
  local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return {first and first[1] or '', last and last[1] or '', call('XLEN', key)}
end

local accounts = {}
for account = 0, tonumber(call('GET', 'user_ids') or 0) do
  local name = string.format('%d', account)
  accounts[account + 1] = {
    call('HGETALL', 'bal:' .. name), call('HGETALL', 'open:' .. name), extent('outbox:' .. name),
    call('HGET', 'user:' .. name, 'drop_copy') or ''}
end

local totals, settled, bbo = call('HGETALL', 'totals'), call('HGETALL', 'settled'), call('HGETALL', 'bbo')
local ledger = extent('ledger')
local copies, disconnects = call('HGETALL', 'copies'), call('ZRANGE', 'disconnects', 0, -1)
local symbols, homes = {}, {}
for i, symbol in ipairs(ARGV) do
  local home = call('HMGET', 'home:' .. symbol, 'db', 'define', 'shard')
  local engine = 'position:engine-' .. (home[3] or '')
  home[4] = call('HGET', engine, symbol) or ''
  home[5] = call('HGET', engine .. '-standby', symbol) or ''
  homes[i] = home
end
for i, symbol in ipairs(ARGV) do
  local db, define = homes[i][1], homes[i][2]
  symbols[i] = {}
  if db and define then
    call('SELECT', db)
    symbols[i] = {db, define, extent('orders:' .. symbol), extent('events:' .. symbol),
      homes[i][3], homes[i][4], homes[i][5]}
  end
end
call('SELECT', 0)
return {totals, settled, bbo, ledger, accounts, copies, disconnects, symbols}
