"""The Lua that runs inside Redis. One script, one atom: all of a call's event happens, in both streams, or nothing.

All keys of a script share a slot (hash tag). `noeviction` and a persistent Redis are assumed; the README says so.
"""

from __future__ import annotations

LAST = """
local function last(key)  -- last number, and the two halves of the last entry id
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  local id, seq, kind = nil, nil, nil
  if found[1] then
    id = found[1][1]
    local f = found[1][2]
    for i = 1, #f, 2 do
      if f[i] == 'seq' then seq = tonumber(f[i + 1]) elseif f[i] == 'type' then kind = f[i + 1] end
    end
  elseif redis.call('EXISTS', key) == 1 then  -- emptied by somebody: the id remembers
    local info = redis.call('XINFO', 'STREAM', key)
    for i = 1, #info, 2 do if info[i] == 'last-generated-id' then id = info[i + 1] end end
  end
  if not id then return 0, 0, 0, '' end
  local dash = string.find(id, '-', 1, true)
  local ms, low = tonumber(string.sub(id, 1, dash - 1)), tonumber(string.sub(id, dash + 1))
  return seq or low, ms, low, kind or ''
end
"""

BEGUN = """
-- A call that stands in the set was begun there in one atom with its stream. Has it none now, somebody took it away;
-- the shared one still holds what was confirmed. (What ZSCORE says, which writers' ACLs have not allowed so far.)
local function is_begun(index, call)
  return redis.call('ZADD', index, 'XX', 'INCR', 0, call) and true
end
"""

WRITE = (
    LAST
    + BEGUN
    + """
-- KEYS: shared stream, set of calls, then one stream per call
-- ARGV: ttl in s; then per call: n, floor, and n times: seq, ms, '' or 'first' or 'last', entry as JSON array
-- answers: gaps, then per call the last number held, or an error text
local shared, index = KEYS[1], KEYS[2]
local kind = redis.call('TYPE', shared).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE shared stream is a ' .. kind) end
local ttl, a, gaps, out = ARGV[1], 2, 0, {}
for k = 3, #KEYS do
  local key, n, floor = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  a = a + 2
  kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and kind ~= 'stream' then
    out[k - 1] = 'WRONGTYPE the call stream is a ' .. kind
    a = a + 4 * n
  else
    local seq, ms, low = last(key)
    if kind == 'none' and is_begun(index, cjson.decode(ARGV[a + 3])[6]) then seq = tonumber(ARGV[a]) - 1 end
    for i = 1, n do
      local s, t, mark = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), ARGV[a + 2]
      if s > seq and (s == seq + 1 or s == floor) then  -- else a duplicate, or behind a gap: not taken
        if t < ms then t = ms end
        if t == ms and s <= low then t = ms + 1 end
        local entry = cjson.decode(ARGV[a + 3])
        redis.call('XADD', key, string.format('%.0f-%.0f', t, s), unpack(entry))
        redis.call('XADD', shared, '*', unpack(entry))
        if mark == 'first' then
          redis.call('ZADD', index, 'NX', string.format('%.0f', t), entry[6])  -- the call's id
        elseif mark == 'last' then
          redis.call('EXPIRE', key, ttl)
        end
        gaps = gaps + s - seq - 1
        seq, ms, low = s, t, s
      end
      a = a + 4
    end
    out[k - 1] = seq
  end
end
out[1] = gaps
return out
"""
)

POSITIONS = (
    LAST
    + BEGUN
    + """
-- KEYS: set of calls, then call streams; ARGV: the calls. Answers per call: last number (-1: taken away), its type
local out = {}
for k = 2, #KEYS do
  local seq, kind, found = 0, '', redis.call('TYPE', KEYS[k]).ok
  if found == 'stream' then
    local _
    seq, _, _, kind = last(KEYS[k])
  elseif found == 'none' and is_begun(KEYS[1], ARGV[k - 1]) then
    seq = -1
  end
  out[2 * k - 3] = seq
  out[2 * k - 2] = kind
end
return out
"""
)

TRIM = """
-- KEYS: shared stream. ARGV: maxlen, maxlen_hard, most entries looked at, then the named groups
-- answers: length, entries cut unseen, the group that holds it up or '', then per group: name, lag (-1: unknown)
local key, maxlen, hard, look = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', key) == 0 then return {0, 0, ''} end
local function less(x, y)  -- entry ids
  local xd, yd = string.find(x, '-', 1, true), string.find(y, '-', 1, true)
  local xm, ym = tonumber(string.sub(x, 1, xd - 1)), tonumber(string.sub(y, 1, yd - 1))
  if xm ~= ym then return xm < ym end
  return tonumber(string.sub(x, xd + 1)) < tonumber(string.sub(y, yd + 1))
end
local function after(id)
  local d = string.find(id, '-', 1, true)
  return string.sub(id, 1, d) .. string.format('%.0f', tonumber(string.sub(id, d + 1)) + 1)
end
local seen, lags = {}, {}
for _, info in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local g = {}
  for i = 1, #info, 2 do g[info[i]] = info[i + 1] end
  local name = g['name']
  seen[name] = {id = g['last-delivered-id'], keep = false}
  if g['pending'] > 0 then  -- given to a consumer but not acknowledged: somebody may have to claim it
    seen[name] = {id = redis.call('XPENDING', key, name)[2], keep = true}
  end
  lags[#lags + 1] = name
  lags[#lags + 1] = g['lag'] or -1
end
local length = redis.call('XLEN', key)
local safe, keep, holder = nil, false, ''
for i = 4, #ARGV do
  local s = seen[ARGV[i]] or {id = '0-0', keep = true}  -- a group that was never made has seen nothing
  if not safe or less(s.id, safe) or (s.id == safe and s.keep) then safe, keep, holder = s.id, s.keep, ARGV[i] end
end
local overrun, held = 0, ''
if length > hard then
  overrun = redis.call('XTRIM', key, 'MAXLEN', '~', hard)
  if not safe then overrun = 0 end
elseif length > maxlen and not safe then
  redis.call('XTRIM', key, 'MAXLEN', '~', maxlen)
elseif length > maxlen then
  local n = math.min(length - maxlen, look)
  local head = redis.call('XRANGE', key, '-', '+', 'COUNT', n)
  local cut, border = after(head[#head][1]), safe  -- everything below goes
  if not keep then border = after(safe) end
  if less(border, cut) then cut, held = border, holder end
  redis.call('XTRIM', key, 'MINID', cut)
end
local out = {redis.call('XLEN', key), overrun, held}
for i = 1, #lags do out[#out + 1] = lags[i] end
return out
"""
