using kept from '../db/schema';

@path: '/shop'
@requires: 'authenticated-user'
service Shop {
  entity Orders    as projection on kept.Orders;
  entity Items     as projection on kept.Items;
  entity Customers as projection on kept.Customers;
  entity Movements as projection on kept.Movements;
  entity Parts     as projection on kept.Parts;
  entity Zoo       as projection on kept.Zoo;
  /** Puts everything back as it was when the server started. */
  action reset();
}

@path: '/lists'
@protocol: 'odata-v4'
@requires: 'authenticated-user'
service Lists4 {
  entity Lists as projection on kept.Lists;
}

@path: '/closed'
@requires: 'auditor'
service Closed {
  @readonly entity Customers as projection on kept.Customers;
}
