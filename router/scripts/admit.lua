-- Admit a batch of client messages: reserve the money and publish the commands, in one step.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat, four per symbol, sorted by db: name, db, incarnation,
--         version of the rules that its commands were made under (0 = they depend on none)
--       2 msgpack, flat, seven per item, in the order in which the messages arrived:
--         kind (0 publish, 1 refuse, 2 mark), account, session epoch, MsgSeqNum,
--         symbol (1 = the first of ARGV 1; 0 = none), asset ('' = nothing to reserve),
--         amount (decimal text, > 0)
--       3… one per item: the encoded command; the encoded Output of a refusal; '' of a mark
-- Reads   DB 0 home:{symbol}, session:{account}. Shard DB home:{symbol}, last of orders:{symbol}
-- Writes  DB 0 bal:{account}, outbox:{account}, session:{account} dealt. Shard DB orders:{symbol}
--
-- Returns {'HOME', symbol} or {'RULES', symbol, version}: nothing is written; else one integer per item:
--         > 0 the seq it was published at; 0 refused (for lack of funds, or as asked), the answer
--         stands in the outbox; -1 skipped, dealt with before; -2 fenced, the session is not the
--         caller's any more; -3 marked
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
local symbols, items = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local time = call('TIME')
local now = time[1] .. format('%06d', time[2])

-- The symbols: where they live, and where their streams end.
for s = 1, #symbols, 4 do
  local home = call('HMGET', 'home:' .. symbols[s], 'incarnation', 'db', 'rules')
  if home[1] ~= symbols[s + 2] or tonumber(home[2]) ~= symbols[s + 1] then
    return {'HOME', symbols[s]}
  end
  if symbols[s + 3] ~= 0 and tonumber(home[3]) ~= symbols[s + 3] then
    return {'RULES', symbols[s], tonumber(home[3])}
  end
end
local db, seqs, stamps, entries = 0, {}, {}, {}
for s = 1, #symbols, 4 do
  local name = symbols[s]
  if symbols[s + 1] ~= db then
    db = symbols[s + 1]
    call('SELECT', db)
  end
  local last = call('XREVRANGE', 'orders:' .. name, '+', '-', 'COUNT', 1)[1]
  if not last or call('GET', 'home:' .. name) ~= symbols[s + 2] then
    call('SELECT', 0)
    return {'HOME', name}
  end
  local index = (s + 3) / 4
  seqs[index] = tonumber(match(last[1], '^(%d+)'))
  stamps[index] = tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
  entries[index] = {}
end
if db ~= 0 then
  call('SELECT', 0)
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

local results = {}
local p = 0
for i = 1, #items / 7 do
  local kind, account, number, s, asset =
    items[p + 1], items[p + 2], items[p + 4], items[p + 5], items[p + 6]
  local payload = ARGV[i + 2]
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
    if kind == 0 then
      if asset == '' or reserve(account, asset, items[p + 7]) then
        local list = entries[s]
        list[#list + 1] = payload
        results[i] = seqs[s] + #list
      else
        call('XADD', 'outbox:' .. account, outbox_id(account),
          'c', payload, 's', symbols[4 * s - 3], 'w', 'funds', 't', stamps[s])
        results[i] = 0
      end
    elseif kind == 1 then
      call('XADD', 'outbox:' .. account, outbox_id(account), 'e', payload)
      results[i] = 0
    else
      results[i] = -3
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
