from hybrid import Connection


async def echo(conn: Connection) -> None:
    async for chunk in conn:
        await conn.send(chunk)
