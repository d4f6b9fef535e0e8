-- Admit a batch of client messages: reserve the money and publish the commands, in one step.
--
-- KEYS  none (one server, several databases)
-- ARGV  1 msgpack, flat, four per symbol, sorted by db: name, db, incarnation,
--         version of the rules that its commands were made under (0 = they depend on none)
--       2 inputs of a symbol that may wait for its engine
--       3 msgpack, flat, seven per item, in the order in which the messages arrived:
--         kind (0 publish, 1 refuse, 2 publish unless too many wait, 3 cancel everywhere, 4 list open orders; above:
--         publish, or, where there is no money for it, which of ARGV is published in its stead),
--         account, session epoch, MsgSeqNum, and then of those that publish: symbol (1 = the first of ARGV 1), asset
--         ('' = nothing to reserve), amount (decimal text, > 0); of 3: which of ARGV holds the command, '', '';
--         of 4: 0, symbol ('' = all), side ('1', '2', '' = both); of 1: 0, '', ''
--       4… one per item: the encoded command; the encoded Output of a refusal, or of the answer to a mass
--         cancel; the encoded mass status request
--       … the commands of mass cancels, and those in the stead of others
--       last: run id of the server
-- Reads   DB 0 cleared, home:{symbol}, settled, session:{account}, open:{account}; what copies.lua reads. Shard DB
--         cleared, home:{symbol}, last of orders:{symbol}
-- Writes  DB 0 bal:{account}, outbox:{account}, session:{account} dealt, listed, listing; what copies.lua writes;
--         PUBLISH wake to those who get copies. Shard DB orders:{symbol}
--
-- Returns {'UNCLEARED'}, {'HOME', symbol} or {'RULES', symbol, version}: nothing is written; else one
--         integer per item: > 0 the seq it was published at; 0 refused, the answer stands in the outbox;
--         -1 skipped, dealt with before; -2 fenced, the session is not the caller's any more;
--         -3 a mass request, the answer stands in the outbox; and behind them the accounts that take no more
--         copies from this call on, a table
--
-- A command that is not published is refused by an entry of the outbox that says why: 'funds', more than is
-- available; 'away', its shard's database is not cleared (the others trade on); 'backlog', too many wait.
-- A mass cancel of all symbols (3; ARGV 1 then has all of them) is done wherever it can be: it goes into every
-- stream but those that are settled to their end and in which the account has no open order. Symbols of a shard
-- that is away do not get it, now or later: the answer's entry names them (x), and says so to the client as a
-- refusal, because there is something left for him to do.
-- Open orders (4) are those that are settled; what is in flight has its own answers. At most 1,000 in an entry.
-- A session may have lists not sent yet that took 20,000 open orders to look through, each at least 1; the
-- next is refused: 'pending', or 'many' where the account alone has so many.
--
-- Atomic, because money must never be held without an order in the stream, nor an order be in the
-- stream without its money; and because "dealt with" must be as true as the effect. The same batch
-- again changes nothing: every item of it is skipped.
-- Everything that can fail for the whole call is looked at before the first write; the first write,
-- whichever it is, is one that Redis refuses when out of memory, and none after it is refused then.
-- Amounts are never Lua numbers (doubles): text in, only the sign of HINCRBY's reply is looked at. No
-- overflow: amounts, balances and totals are at most 2^62.
-- Limits: 512 items, 20 ms for a list of 20,000 orders; seq < 10^14, where Lua begins to print with an exponent.

local call, match, format = redis.call, string.match, string.format
local symbols, items = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[3])
local backlog_max = tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] .. format('%06d', time[2])

if not is_cleared() then
  return {'UNCLEARED'}
end

local homes, seqs, stamps, away = read_streams(symbols, 4, now)
local entries = {}
local most = {}
for s = 1, #symbols, 4 do
  local index = (s + 3) / 4
  entries[index] = {}
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

local epochs, dealt, raised, numbers, wake = {}, {}, {}, {}, {}
-- bal:{account} by account, put together once: to Lua a number in a text is a double to be printed.
local bal = {}

local function next_number(account)
  local number = numbers[account]
  if not number then
    local last = call('XREVRANGE', 'outbox:' .. account, '+', '-', 'COUNT', 1)[1]
    number = last and tonumber(match(last[1], '^(%d+)')) or 0
  end
  numbers[account] = number + 1
  return number + 1
end

-- Put an entry into the account's outbox. Returns its number.
local function put(account, ...)
  local number = next_number(account)
  call('XADD', 'outbox:' .. account, format('%d-0', number), ...)
  return number
end

-- The same, with copies of it into those of others.
local function tell(account, ...)
  local number = put(account, ...)
  local others = copies_of(account)
  for i = 1, others and #others or 0 do
    local other = others[i]
    if takes_copy(other) then
      call('XADD', 'outbox:' .. other, format('%d-0', next_number(other)), 'a', account, 'i', number, ...)
      wake[#wake + 1] = other
    end
  end
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

-- Publish a command, or refuse it.
local function publish(kind, account, s, asset, amount, command)
  local why = refusal(kind, s, account, asset, amount)
  if why == 'funds' and kind > 4 then
    command = ARGV[kind]
  elseif why then
    tell(account, 'c', command, 's', symbols[4 * s - 3], 'w', why, 't', stamps[s])
    return 0
  end
  local list = entries[s]
  list[#list + 1] = command
  return seqs[s] + #list
end

-- Answer a mass cancel, then publish it wherever the account may have orders.
local may_have = {}
local function cancel_everywhere(account, answer, command)
  may_have[account] = may_have[account] or may_have_orders(account)
  local missed = {}
  for s = 1, #symbols / 4 do
    local name, list = symbols[4 * s - 3], entries[s]
    if away[s] then
      missed[#missed + 1] = name
    elseif #list > 0 or may_have[account](name, seqs[s]) then
      list[#list + 1] = command
    end
  end
  if #missed > 0 then
    tell(account, 'e', answer, 'x', table.concat(missed, ' '))
  else
    tell(account, 'e', answer)
  end
end

-- Put the account's open orders into its outbox, those of one symbol and side where these are given. Nobody
-- gets copies: who is slow to read them is not who asked, so nothing would bound them.
local function list_open_orders(account, number, request, symbol, side)
  local open, session = 'open:' .. account, 'session:' .. account
  local s = call('HMGET', session, 'cursor', 'listed', 'listing')
  local work = call('HLEN', open) + 1
  -- What was listed up to the cursor has been sent.
  local pending = (tonumber(s[2]) or 0) > (tonumber(s[1]) or 0) and tonumber(s[3]) or 0
  if pending + work > 20001 then
    put(account, 'q', request, 'm', number, 'w', pending > 0 and 'pending' or 'many', 't', now)
    return
  end
  local all, prefix, total, chunks = call('HGETALL', open), symbol .. '|', 0, {{}}
  for i = 1, #all, 2 do
    if (symbol == '' or string.sub(all[i], 1, #prefix) == prefix)
        and (side == '' or match(all[i + 1], '^%d+ (%d)') == side) then
      if total > 0 and total % 1000 == 0 then
        chunks[#chunks + 1] = {}
      end
      local chunk = chunks[#chunks]
      chunk[#chunk + 1] = all[i]
      chunk[#chunk + 1] = all[i + 1]
      total = total + 1
    end
  end
  local last
  for i, chunk in ipairs(chunks) do
    last = put(account, 'q', request, 'm', number, 'f', 1000 * (i - 1), 'n', total,
      'o', cmsgpack.pack(chunk), 't', now)
  end
  call('HSET', session, 'listed', last, 'listing', pending + work)
end

local results = {}
local p = 0
for i = 1, #items / 7 do
  local kind, account, number = items[p + 1], items[p + 2], items[p + 4]
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
    if kind == 0 or kind == 2 or kind > 4 then
      results[i] = publish(kind, account, items[p + 5], items[p + 6], items[p + 7], payload)
    elseif kind == 1 then
      tell(account, 'e', payload)
      results[i] = 0
    elseif kind == 3 then
      cancel_everywhere(account, payload, ARGV[items[p + 5]])
      results[i] = -3
    else
      list_open_orders(account, number, payload, items[p + 6], items[p + 7])
      results[i] = -3
    end
  end
  p = p + 7
end

for account in pairs(raised) do
  call('HSET', 'session:' .. account, 'dealt', dealt[account])
end
if #wake > 0 then
  call('PUBLISH', 'wake', table.concat(wake, ' '))
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
results[#results + 1] = full
return results
