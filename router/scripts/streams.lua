-- Where symbols' streams of commands end: put before the scripts that append to them; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it
-- Reads   Shard DBs cleared, home:{symbol}, last of orders:{symbol}. DB 0 home:{symbol}, open:{account}, settled
-- Writes  Shard DBs orders:{symbol}
--
-- Returns nothing; defines
--         read_streams(symbols, step, now, or_new) -> four tables by the symbols' numbers from 1 on: incarnation
--           (false: the stream is empty), seq and stamp in µs of the last entry (the stamp at least now), true
--           where the shard's server is not cleared (then there are no others but the stamp)
--         wrong_home(symbols, step, homes, away) -> {'HOME', symbol} of one that is not what the caller knows, or nil
--         may_have_orders(account) -> a function of a symbol and the seq that its stream ends at
--         append_everywhere(symbols, step, numbers, seqs, stamps, command): behind the streams of these symbols
--
-- `symbols` is flat, `step` per symbol, beginning with name, db and incarnation, sorted by db. What is not cleared is not
-- looked at: a home that it has lost must not seem to be another venue's. All begin and end in DB 0.
-- Atomic as part of the script behind it. An account may have orders in a symbol where it has an open one, or where its engine has not settled everything.
-- Limits: with more than 1,000 open orders an account may have some everywhere.

local function read_streams(symbols, step, now, or_new)
  local homes, seqs, stamps, away = {}, {}, {}, {}
  local db, cleared = 0, true
  for s = 1, #symbols, step do
    local name, index = symbols[s], (s + step - 1) / step
    if symbols[s + 1] ~= db then
      db = symbols[s + 1]
      redis.call('SELECT', db)
      cleared = is_cleared(or_new)
    end
    if cleared then
      local last = redis.call('XREVRANGE', 'orders:' .. name, '+', '-', 'COUNT', 1)[1]
      homes[index] = last and redis.call('GET', 'home:' .. name)
      seqs[index] = last and tonumber(string.match(last[1], '^(%d+)'))
      stamps[index] = last and tonumber(last[2][4]) > tonumber(now) and last[2][4] or now
    else
      away[index], stamps[index] = true, now
    end
  end
  if db ~= 0 then
    redis.call('SELECT', 0)
  end
  return homes, seqs, stamps, away
end

local function wrong_home(symbols, step, homes, away)
  for s = 1, #symbols, step do
    local index = (s + step - 1) / step
    local known = redis.call('HGET', 'home:' .. symbols[s], 'incarnation')
    if not away[index] and (known ~= symbols[s + 2] or homes[index] ~= symbols[s + 2]) then
      return {'HOME', symbols[s]}
    end
  end
end

local function may_have_orders(account)
  local key, open = 'open:' .. account, {}
  local everywhere = redis.call('HLEN', key) > 1000
  if not everywhere then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      open[string.match(field, '^([^|]*)|')] = true
    end
  end
  return function(symbol, seq)
    return everywhere or open[symbol] or tonumber(redis.call('HGET', 'settled', symbol)) ~= seq
  end
end

local function append_everywhere(symbols, step, numbers, seqs, stamps, command)
  for i = 1, #numbers do
    local index = numbers[i]
    local s = step * index - step + 1
    redis.call('SELECT', symbols[s + 1])
    redis.call('XADD', 'orders:' .. symbols[s], string.format('%d-0', seqs[index] + 1), 'c', command,
      't', stamps[index])
  end
  redis.call('SELECT', 0)
end

