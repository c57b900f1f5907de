-- The nginx front of the Redis rival: one purchase, from the request to the answer.
--
-- SOCKET, PASSWORD, SCRIPT and HASH are set before (init_by_lua). It talks to Redis as lua-resty-redis does, over
-- a cosocket out of a pool that is kept alive, with less work per command: it knows its one command.

local TITLES = {
    sold_out = 'Sold out',
    cap_reached = 'This buyer has as many as one may have',
    unauthenticated = 'The X-Buyer header must name the buyer, 1 to 64 visible characters',
    bad_json = 'The body must be {\\"quantity\\":1}',
    bad_quantity = 'One unit at a time',
    internal = 'Redis refused',
}

local function refuse(status, code)
    local body = '{"status":' .. status .. ',"code":"' .. code .. '","title":"' .. (TITLES[code] or code) .. '"}'
    ngx.status = status
    ngx.header['Content-Type'] = 'application/problem+json'
    ngx.header['Content-Length'] = #body
    ngx.print(body)
end

local function arg(word)
    return '$' .. #word .. '\r\n' .. word .. '\r\n'
end

-- One reply; nil when the connection is of no more use.
local function reply(redis)
    local line, fault = redis:receive()
    if not line then return nil, fault end
    local kind, rest = line:sub(1, 1), line:sub(2)
    if kind == '+' then return rest end
    if kind == '-' then return false, rest end
    if kind ~= '$' then return nil, 'unreadable' end
    local text
    text, fault = redis:receive(tonumber(rest) + 2)
    if not text then return nil, fault end
    return text:sub(1, -3)
end

local function call(item, buyer, key)
    local redis = ngx.socket.tcp()
    redis:settimeout(5000)
    local ok, fault = redis:connect(SOCKET, { pool = 'redis', pool_size = 512 })
    if not ok then return nil, fault end
    if redis:getreusedtimes() == 0 then
        redis:send('*2\r\n$4\r\nAUTH\r\n' .. arg(PASSWORD))
        ok, fault = reply(redis)
        if not ok then redis:close() return nil, fault end
    end
    local tail = '$1\r\n3\r\n' .. KEYS_OF(item) .. arg(buyer) .. arg(key) .. arg(CAP)
    local text
    ok, fault = redis:send('*9\r\n$7\r\nEVALSHA\r\n$40\r\n' .. HASH .. '\r\n' .. tail)
    if ok then text, fault = reply(redis) end
    if text == false and fault:sub(1, 8) == 'NOSCRIPT' then
        ok, fault = redis:send('*9\r\n$4\r\nEVAL\r\n' .. arg(SCRIPT) .. tail)
        if ok then text, fault = reply(redis) end
    end
    if text == nil then redis:close() return nil, fault end
    redis:setkeepalive(60000, 512)
    return text, fault
end

local item = ngx.var[1]
if ngx.req.get_method() ~= 'POST' then return refuse(405, 'method_not_allowed') end
ngx.req.read_body()
local quantity = (ngx.req.get_body_data() or ''):match('^%s*{%s*"quantity"%s*:%s*(%d+)%s*}%s*$')
if not quantity then return refuse(400, 'bad_json') end
if quantity ~= '1' then return refuse(400, 'bad_quantity') end
local buyer, key = ngx.var.http_x_buyer or '', ngx.var.http_idempotency_key or ''
if #buyer > 64 or not buyer:find('^[!-~]+$') then return refuse(401, 'unauthenticated') end
if #key > 64 or not key:find('^[!-~]*$') then return refuse(400, 'bad_header') end

local text, fault = call(item, buyer, key)
if not text then
    ngx.log(ngx.ERR, 'redis: ', fault)
    return refuse(503, 'internal')
end
local told, ms, sequence = text:match('^(%a+) (%d+)-(%d+)$')
if not told then
    return refuse(text == 'not_found' and 404 or 409, text)
end
-- As order_of in redis_lua.rs makes it: 64-bit integers, since a double would round it.
local id = tostring(tonumber(ms) * 1048576LL + tonumber(sequence)):sub(1, -3)
local body = '{"order_id":"' .. id .. '","item_id":' .. item
    .. ',"quantity":1,"state":"confirmed","created_at_ms":' .. ms .. '}'
ngx.status = 201
ngx.header['Content-Type'] = 'application/json'
ngx.header['Content-Length'] = #body
if told == 'again' then ngx.header['Idempotent-Replay'] = 'true' end
ngx.print(body)
