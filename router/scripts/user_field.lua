-- Give a field of a user's record another value: put before the scripts that do so; alone it does nothing.
--
-- KEYS    those of the script behind it
-- ARGV    those of the script behind it
-- Reads and writes  user:{account}, copies, lost
--
-- Returns nothing; defines set_user_field(account, field, value), and end_drop_copy(account): of a user who is disabled
--
-- Atomic as part of the script behind it: `copies` says for each account what the drop_copy fields of all users
-- say together, "dc1 dc2" in ascending order, and is read with every report. What is in an outbox stays there.

local function set_copy(account, other, is_copied)
  local found = {}
  for name in string.gmatch(redis.call('HGET', 'copies', other) or '', '%d+') do
    if name ~= account then
      found[#found + 1] = tonumber(name)
    end
  end
  if is_copied then
    found[#found + 1] = tonumber(account)
  end
  table.sort(found)
  if #found > 0 then
    redis.call('HSET', 'copies', other, table.concat(found, ' '))
  else
    redis.call('HDEL', 'copies', other)
  end
end

local function set_user_field(account, field, value)
  local key = 'user:' .. account
  if field == 'drop_copy' then
    for other in string.gmatch(redis.call('HGET', key, field) or '', '%d+') do
      set_copy(account, other, false)
    end
    for other in string.gmatch(value, '%d+') do
      set_copy(account, other, true)
    end
  end
  redis.call('HSET', key, field, value)
end

local function end_drop_copy(account)
  if (redis.call('HGET', 'user:' .. account, 'drop_copy') or '') ~= '' then
    set_user_field(account, 'drop_copy', '')
  end
  redis.call('HDEL', 'lost', account, account .. ':since')
end

