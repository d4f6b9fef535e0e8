-- Admit a batch of client messages: reserve the money and publish the commands, in one step.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat, four per symbol, sorted by db: name, db, incarnation,
--         version of the rules that its commands were made under (0 = they depend on none)
--       2 inputs of a symbol that may wait for its engine
--       3 msgpack, flat, seven per item, in the order in which the messages arrived:
--         kind (0 publish, 1 refuse, 2 publish unless too many wait), account, session epoch,
--         MsgSeqNum, symbol (1 = the first of ARGV 1; 0 = none), asset ('' = nothing to reserve),
--         amount (decimal text, > 0)
--       4… one per item: the encoded command; the encoded Output of a refusal
--       last: run id of the server
-- Reads   DB 0 cleared, home:{symbol}, settled, session:{account}. Shard DB cleared, home:{symbol}, last of
--         orders:{symbol}
-- Writes  DB 0 bal:{account}, outbox:{account}, session:{account} dealt. Shard DB orders:{symbol}
--
-- Returns {'UNCLEARED'}, {'HOME', symbol} or {'RULES', symbol, version}: nothing is written; else one
--         integer per item: > 0 the seq it was published at; 0 refused, the answer stands in the outbox;
--         -1 skipped, dealt with before; -2 fenced, the session is not the caller's any more
--
-- A command that is not published is refused by an entry of the outbox that says why: 'funds', more than is
-- available; 'away', its shard's database is not cleared (the others trade on); 'backlog', too many wait.
--
-- Atomic, because money must never be held without an order in the stream, nor an order be in the
-- stream without its money; and because "dealt with" must be as true as the effect. The same batch
-- again changes nothing: every item of it is skipped.
-- Everything that can fail for the whole call is looked at before the first write; the first write,
-- whichever it is, is one that Redis refuses when out of memory, and none after it is refused then.
-- Amounts are never Lua numbers (doubles): text in, only the sign of HINCRBY's reply is looked at. No
-- overflow: amounts, balances and totals are at most 2^62.
-- Limits: 512 items; seq < 10^14, where Lua begins to print with an exponent.

local call, match, format = redis.call, string.match, string.format
local symbols, items = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local backlog_max = tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] .. format('%06d', time[2])

if not is_cleared() then
  return {'UNCLEARED'}
end

-- The symbols: where they live, and where their streams end. What is not cleared is not looked at: a home
-- that it has lost must not seem to be another venue's.
local db, cleared, homes = 0, true, {}
local seqs, stamps, entries, away = {}, {}, {}, {}
for s = 1, #symbols, 4 do
  local name, index = symbols[s], (s + 3) / 4
  if symbols[s + 1] ~= db then
    db = symbols[s + 1]
    call('SELECT', db)
    cleared = is_cleared()
  end
  entries[index] = {}
  if cleared then
    local last = call('XREVRANGE', 'orders:' .. name, '+', '-', 'COUNT', 1)[1]
    homes[index] = last and call('GET', 'home:' .. name)
    seqs[index] = last and tonumber(match(last[1], '^(%d+)'))
    stamps[index] = last and tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
  else
    away[index], stamps[index] = true, now
  end
end
if db ~= 0 then
  call('SELECT', 0)
end
local most = {}
for s = 1, #symbols, 4 do
  local index = (s + 3) / 4
  if not away[index] then
    local home = call('HMGET', 'home:' .. symbols[s], 'incarnation', 'db', 'rules')
    if home[1] ~= symbols[s + 2] or homes[index] ~= symbols[s + 2] or tonumber(home[2]) ~= symbols[s + 1] then
      return {'HOME', symbols[s]}
    end
    if symbols[s + 3] ~= 0 and tonumber(home[3]) ~= symbols[s + 3] then
      return {'RULES', symbols[s], tonumber(home[3])}
    end
    most[index] = (tonumber(call('HGET', 'settled', symbols[s])) or 0) + backlog_max
  end
end

local epochs, dealt, raised, outbox_ids = {}, {}, {}, {}
-- bal:{account} by account, put together once: to Lua a number in a text is a double to be printed.
local bal = {}

local function outbox_id(account)
  local id = outbox_ids[account]
  if not id then
    local last = call('XREVRANGE', 'outbox:' .. account, '+', '-', 'COUNT', 1)[1]
    id = last and tonumber(match(last[1], '^(%d+)')) or 0
  end
  id = id + 1
  outbox_ids[account] = id
  return format('%d-0', id)
end

-- Take what the item reserves; false if the account does not have it.
local function reserve(account, asset, amount)
  local key = bal[account]
  if call('HINCRBY', key, asset .. ':a', '-' .. amount) < 0 then
    call('HINCRBY', key, asset .. ':a', amount)
    return false
  end
  call('HINCRBY', key, asset .. ':p', amount)
  return true
end

-- Say why an item is not published: 'away', 'backlog' or 'funds'. Nothing: it is, what it needs is reserved.
local function refusal(kind, s, account, asset, amount)
  if away[s] then
    return 'away'
  end
  if kind == 2 and seqs[s] + #entries[s] >= most[s] then
    return 'backlog'
  end
  return asset ~= '' and not reserve(account, asset, amount) and 'funds'
end

local results = {}
local p = 0
for i = 1, #items / 7 do
  local kind, account, number, s, asset =
    items[p + 1], items[p + 2], items[p + 4], items[p + 5], items[p + 6]
  local payload = ARGV[i + 3]
  local epoch = epochs[account]
  if not epoch then
    local session = call('HMGET', 'session:' .. account, 'epoch', 'dealt')
    epoch = tonumber(session[1]) or 0
    epochs[account] = epoch
    bal[account] = 'bal:' .. account
    dealt[account] = tonumber(session[2]) or 0
  end
  if epoch ~= items[p + 3] then
    results[i] = -2
  elseif number <= dealt[account] then
    results[i] = -1
  else
    dealt[account] = number
    raised[account] = true
    if kind == 1 then
      call('XADD', 'outbox:' .. account, outbox_id(account), 'e', payload)
      results[i] = 0
    else
      local why = refusal(kind, s, account, asset, items[p + 7])
      if why then
        call('XADD', 'outbox:' .. account, outbox_id(account),
          'c', payload, 's', symbols[4 * s - 3], 'w', why, 't', stamps[s])
        results[i] = 0
      else
        local list = entries[s]
        list[#list + 1] = payload
        results[i] = seqs[s] + #list
      end
    end
  end
  p = p + 7
end

for account in pairs(raised) do
  call('HSET', 'session:' .. account, 'dealt', dealt[account])
end
for s = 1, #symbols, 4 do
  local index = (s + 3) / 4
  local list = entries[index]
  if #list > 0 then
    call('SELECT', symbols[s + 1])
    local key, seq, stamp = 'orders:' .. symbols[s], seqs[index], stamps[index]
    for i = 1, #list do
      call('XADD', key, format('%d-0', seq + i), 'c', list[i], 't', stamp)
    end
  end
end
call('SELECT', 0)
return results
