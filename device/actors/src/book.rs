//! An order book: limit orders that are matched by price, then by time, in collections that grow.

use tourbillon_device::{Context, Handler, Plain, PoolError, PoolMap, PoolVec, State, actor};

/// The book of one market, named by its key.
///
/// The orders of one price are a queue, linked through the map, so that any of them is cancelled without looking at the others. The
/// prices of each side are sorted with the best one at the end, where most changes are and where a sequence is cheapest to change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Book {
    /// What is offered for purchase: the highest price last.
    bids: PoolVec<Level>,
    /// What is offered for sale: the lowest price last.
    asks: PoolVec<Level>,
    /// All orders in the book by their numbers.
    orders: PoolMap<u64, Order>,
    /// Zero.
    reserved: u32,
    /// Trades made.
    trades: u64,
    /// Quantity that changed hands.
    volume: u64,
}

/// The orders of one price and side, oldest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Level {
    price: u64,
    /// Sum of the orders.
    quantity: u64,
    first: u64,
    last: u64,
}

/// An order in the book.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
struct Order {
    price: u64,
    quantity: u64,
    /// Neighbours in the queue; 0 for none.
    before: u64,
    after: u64,
    side: u64,
}

/// Which side of the market.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Plain)]
pub enum Side {
    /// To buy.
    Buy = 0,
    /// To sell.
    Sell = 1,
}

/// A limit order: trades with what is in the book at its price or a better one, at the price of the book; what is left stays in the book.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Limit {
    /// Number of the order, not 0 and not that of an order in the book.
    pub order: u64,
    /// Buy or sell.
    pub side: Side,
    /// The worst price that is accepted.
    pub price: u64,
    /// How much, at least 1.
    pub quantity: u64,
}

/// What became of an order when it came.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Placed {
    /// Quantity that was traded.
    pub filled: u64,
    /// Quantity that stays in the book.
    pub rested: u64,
    /// Price times quantity of all trades, modulo 2^64.
    pub value: u64,
    /// Trades.
    pub trades: u64,
}

/// Takes what is left of an order out of the book; the reply is how much that was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Cancel {
    /// Number of the order.
    pub order: u64,
}

/// Asks how the book stands.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Look {}

/// How a book stands. A price and its quantity are 0 where nothing is offered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub struct Standing {
    /// Highest price at which somebody buys.
    pub bid: u64,
    /// Quantity at that price.
    pub bid_quantity: u64,
    /// Lowest price at which somebody sells.
    pub ask: u64,
    /// Quantity at that price.
    pub ask_quantity: u64,
    /// Orders in the book.
    pub orders: u64,
    /// Trades since the beginning.
    pub trades: u64,
    /// Quantity that changed hands.
    pub volume: u64,
}

/// Why a book refused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
pub enum BookError {
    /// An order's number is 0, or its quantity is.
    Malformed = 1,
    /// An order of this number is in the book.
    Duplicate = 2,
    /// No order of this number is in the book.
    NotFound = 3,
    /// The quantity at one price, or the volume, would be 2^64 or more.
    TooMuch = 4,
    /// The book contradicts itself.
    Damaged = 5,
}

impl core::fmt::Display for BookError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the order has number 0 or quantity 0",
            Self::Duplicate => "an order of this number is in the book; choose another",
            Self::NotFound => "no order of this number is in the book: it was filled, cancelled or never placed",
            Self::TooMuch => "the quantity at one price, or the volume, would be 2^64 or more",
            Self::Damaged => "the book contradicts itself",
        })
    }
}

impl core::error::Error for BookError {}

/// For `?`: the engine answers with the pool's failure in place of this value.
impl From<PoolError> for BookError {
    fn from(_: PoolError) -> Self {
        Self::Damaged
    }
}

impl Book {
    fn levels(&mut self, side: Side) -> &mut PoolVec<Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// Number of levels of `side` in front of that of `price`, and whether that one is there.
    fn place(&mut self, context: &Context, side: Side, price: u64) -> Result<(u32, bool), PoolError> {
        let levels = *self.levels(side);
        let index = levels.partition_point(context, |level| match side {
            Side::Buy => level.price < price,
            Side::Sell => level.price > price,
        })?;
        Ok((index, levels.get(context, index)?.is_some_and(|level| level.price == price)))
    }

    /// Trades with the best levels of the other side while they are good enough.
    fn trade(&mut self, order: &Limit, context: &mut Context) -> Result<Placed, BookError> {
        let other = match order.side {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        };
        let mut placed = Placed { filled: 0, rested: order.quantity, value: 0, trades: 0 };
        while placed.rested != 0 {
            let Some(mut level) = self.levels(other).last(context)?.copied() else { break };
            let is_worse = match order.side {
                Side::Buy => level.price > order.price,
                Side::Sell => level.price < order.price,
            };
            if is_worse {
                break;
            }
            while placed.rested != 0 && level.first != 0 {
                let resting = self.orders.get_mut(context, &level.first)?.ok_or(BookError::Damaged)?;
                let quantity = resting.quantity.min(placed.rested);
                resting.quantity -= quantity;
                level.quantity = level.quantity.checked_sub(quantity).ok_or(BookError::Damaged)?;
                placed.rested -= quantity;
                placed.filled += quantity;
                placed.value = placed.value.wrapping_add(quantity.wrapping_mul(level.price));
                placed.trades += 1;
                if resting.quantity == 0 {
                    let after = resting.after;
                    self.orders.remove(context, &level.first)?;
                    level.first = after;
                    if let Some(next) = self.orders.get_mut(context, &after)? {
                        next.before = 0;
                    }
                }
            }
            let levels = self.levels(other);
            if level.first == 0 {
                levels.pop(context)?;
            } else if let Some(last) = levels.get_mut(context, levels.len() - 1)? {
                *last = level;
            }
        }
        self.trades += placed.trades;
        self.volume = self.volume.checked_add(placed.filled).ok_or(BookError::TooMuch)?;
        Ok(placed)
    }

    /// Puts what is left of an order at the end of its price's queue.
    fn rest(&mut self, order: &Limit, quantity: u64, context: &mut Context) -> Result<(), BookError> {
        let (index, is_there) = self.place(context, order.side, order.price)?;
        let mut before = 0;
        if is_there {
            let level = self.levels(order.side).get_mut(context, index)?.ok_or(BookError::Damaged)?;
            before = core::mem::replace(&mut level.last, order.order);
            level.quantity = level.quantity.checked_add(quantity).ok_or(BookError::TooMuch)?;
            self.orders.get_mut(context, &before)?.ok_or(BookError::Damaged)?.after = order.order;
        } else {
            let level = Level { price: order.price, quantity, first: order.order, last: order.order };
            self.levels(order.side).insert(context, index, level)?;
        }
        let resting = Order { price: order.price, quantity, before, after: 0, side: order.side as u64 };
        self.orders.insert(context, order.order, resting)?;
        Ok(())
    }
}

impl Handler<Limit> for Book {
    type Reply = Placed;

    fn handle(&mut self, message: &Limit, context: &mut Context) -> Result<Placed, BookError> {
        if message.order == 0 || message.quantity == 0 {
            return Err(BookError::Malformed);
        }
        if self.orders.contains_key(context, &message.order)? {
            return Err(BookError::Duplicate);
        }
        let placed = self.trade(message, context)?;
        if placed.rested != 0 {
            self.rest(message, placed.rested, context)?;
        }
        Ok(placed)
    }
}

impl Handler<Cancel> for Book {
    type Reply = u64;

    fn handle(&mut self, message: &Cancel, context: &mut Context) -> Result<u64, BookError> {
        let Some(order) = self.orders.remove(context, &message.order)? else { return Err(BookError::NotFound) };
        let side = if order.side == Side::Buy as u64 { Side::Buy } else { Side::Sell };
        if let Some(before) = self.orders.get_mut(context, &order.before)? {
            before.after = order.after;
        }
        if let Some(after) = self.orders.get_mut(context, &order.after)? {
            after.before = order.before;
        }
        let (index, is_there) = self.place(context, side, order.price)?;
        if !is_there {
            return Err(BookError::Damaged);
        }
        if order.before == 0 && order.after == 0 {
            self.levels(side).remove(context, index)?;
            return Ok(order.quantity);
        }
        let level = self.levels(side).get_mut(context, index)?.ok_or(BookError::Damaged)?;
        level.quantity -= order.quantity;
        if order.before == 0 {
            level.first = order.after;
        }
        if order.after == 0 {
            level.last = order.before;
        }
        Ok(order.quantity)
    }
}

impl Handler<Look> for Book {
    type Reply = Standing;

    fn handle(&mut self, _message: &Look, context: &mut Context) -> Result<Standing, BookError> {
        let bid = self.bids.last(context)?.map_or((0, 0), |level| (level.price, level.quantity));
        let ask = self.asks.last(context)?.map_or((0, 0), |level| (level.price, level.quantity));
        Ok(Standing {
            bid: bid.0,
            bid_quantity: bid.1,
            ask: ask.0,
            ask_quantity: ask.1,
            orders: self.orders.len().into(),
            trades: self.trades,
            volume: self.volume,
        })
    }
}

actor!(Book {
    kind: 7,
    pools: true,
    error: BookError,
    messages: { #[outlined] 0: Limit, #[outlined] 1: Cancel, #[outlined] 2: Look },
});
