namespace kept;

using {managed} from '@sap/cds/common';

/** Headers with lines that live and die with them. */
entity Orders : managed {
  key ID       : UUID;
      @title: 'Order number'
      number   : String(10);
      customer : Association to Customers;
      total    : Decimal(15, 2);
      items    : Composition of many Items on items.order = $self;
}

entity Items : managed {
  key order    : Association to Orders;
  key line     : Int32;
      product  : String(40);
      quantity : Integer;
      price    : Decimal(15, 2);
}

entity Customers : managed {
  key ID      : Integer;
      @title: 'Customer name'
      name    : String(100);
      city    : String(60);
      address : {
        street : String(60);
        zip    : String(10);
      };
}

/** Long enough for many pages; its key is an integer. */
entity Movements : managed {
  key ID     : Integer;
      text   : String(80);
      amount : Decimal(15, 3);
      booked : Date;
}

/** Its key is text of every case; the same in a key of two parts. */
entity Parts {
  key plant    : String(4);
  key material : String(18);
      stock    : Integer;
}

/** One column of every type that this server has. */
entity Zoo {
  key ID        : Integer;
      flag      : Boolean;
      byte      : UInt8;
      short     : Int16;
      int       : Int32;
      long      : Int64;
      exact     : Decimal(38, 10);
      money     : Decimal(15, 2);
      whole     : Decimal(20);
      floating  : Decimal;
      float     : Double;
      day       : Date;
      clock     : Time;
      moment    : DateTime;
      stamp     : Timestamp;
      guid      : UUID;
      word      : String(50);
      story     : LargeString;
      bytes     : Binary(64);
      picture   : LargeBinary @Core.MediaType: 'image/png';
      hidden    : String(10) @cds.api.ignore;
}

/** What only V4 has: collections. */
entity Lists {
  key ID    : Integer;
      tags  : many String;
      boxes : many {
        width  : Integer;
        height : Decimal(9, 3);
      };
}
